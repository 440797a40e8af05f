"""Plugins that are images: the image runs in a Job and speaks the plugin protocol."""
