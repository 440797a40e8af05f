"""The kinds, the configuration files of pods, reasons and other fixed names, the CRD generator. Needs only pydantic."""

VERSION = "0.1.0"
"""Version of Chorus, as in pyproject.toml."""
