"""The only code that talks to the API server: a client for plain dicts with a deadline on every call and one error type
for each decision, the work queue that gives keys to reconcilers one at a time, and leader election by a Lease. It knows
kinds by name and path, and nothing of what they mean.
"""
