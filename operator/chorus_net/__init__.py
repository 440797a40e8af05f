"""Listening and connecting, for the operator and pods: limits of listeners, and addresses that must not be reached."""
