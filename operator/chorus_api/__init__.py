"""What crosses a boundary: the kinds, the messages and the run configuration. Pydantic only."""
