"""Keys and certificates: authorities, what they sign, and TLS contexts whose keys are never on disk. All X.509 code is
here, for the operator, the pods that serve a training frame, and the `chorus` command. It stores nothing, and the
caller passes the time.
"""
