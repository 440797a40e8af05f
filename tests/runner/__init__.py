"""What tests/run.py is made of: processes, set-up, tiers, and the report."""
