"""Read, check and split a table into a training frame; publish a finished artefact. No torch."""
