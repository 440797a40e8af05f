"""Plugins that are HTTP services and speak the plugin protocol. An exchange serves the frame and takes the artefact."""
