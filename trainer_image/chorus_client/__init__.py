"""A pod's side of the protocol: messages to the control plane, the termination record, the run files."""
