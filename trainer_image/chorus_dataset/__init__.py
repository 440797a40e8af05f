"""The CPU Jobs: prepare a frame from a table, fetch a base model, publish an artefact, run an exchange. No torch."""
