"""`chorus plugin check`: play the plugin contract with a plugin, and say rule by rule whether it keeps it."""
