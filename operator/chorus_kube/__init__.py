"""The API server client for plain dicts (one pool of connections, a deadline on every call, one error type for each
decision, watches), the work queue of keys, and leader election with a Lease. kopf's watches bypass the client. The
package knows kinds by name and path, not what they mean.
"""
