"""What pods of Chorus run: prepare, fetch, publish and the exchange. `job` wraps each: its configuration file, signals,
exit code and termination record.
"""
