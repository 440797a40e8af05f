"""Plugins that are services: what Chorus sends them, where to, and by what they and we are known."""
