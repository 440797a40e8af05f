"""The pod's side of the protocol: messages to the control plane, the termination record, stopping, masked secrets.

Nothing is imported here, so that a pod which sends nothing does not load what sending needs.
"""
