"""A classifier for tables, as a Chorus plugin. It knows the plugin protocol and nothing of Chorus's own code."""
