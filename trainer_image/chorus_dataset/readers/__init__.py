"""Rows out of files: CSV, JSON lines and Parquet, read in batches of columns; what cannot be read is counted by reason.
A file is opened without following links.
"""
