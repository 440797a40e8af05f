"""The `chorus` command: what authors and users of Chorus do at their own machine."""
