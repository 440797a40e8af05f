"""An HTTP service that speaks the plugin protocol; an exchange holds its frame and takes its artefact."""
