"""Readers of CSV, JSON lines and Parquet files. They read rows in bounded memory and count unusable rows by reason.
Links are followed, but never out of the source's volume.
"""
