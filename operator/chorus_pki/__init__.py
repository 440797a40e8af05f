"""Keys and certificates: authorities, what they sign, and TLS contexts whose keys are on no disk. Everything that makes
X.509 is here, for the operator, the pods that serve a training frame, and the `chorus` command. It keeps nothing, and
time is handed in.
"""
