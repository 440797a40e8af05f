"""The programs of Chorus's own pods: prepare, fetch, publish and the exchange. `job` gives each its configuration file,
signal handling, exit code and termination record.
"""
