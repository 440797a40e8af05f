"""Data sources: a volume, a server on the network, SQLite or PostgreSQL. Addresses are checked, credentials come from
the files of a Secret, and every wait has a limit. Files are passed to `readers`.
"""
