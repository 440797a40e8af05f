"""Children as plain dicts, built by pure functions. Each is created once and owned by the object it serves."""
