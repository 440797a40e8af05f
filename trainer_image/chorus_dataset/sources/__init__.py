"""Where rows come from: a volume, a server on the network, SQLite or PostgreSQL. Addresses are checked, credentials
come from a Secret's files, and every wait has a limit. Files are handed to `readers`.
"""
