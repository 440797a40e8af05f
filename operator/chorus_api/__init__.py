"""What crosses a boundary: the kinds, the messages and the run configuration. Pydantic only."""

VERSION = "0.1.0"
"""Version of Chorus, as in pyproject.toml."""
