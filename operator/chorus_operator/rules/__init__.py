"""Pure decisions: no clock, no randomness, no environment, no I/O."""
