"""The `chorus` command, which plugin authors and users of Chorus run on their own machine."""
