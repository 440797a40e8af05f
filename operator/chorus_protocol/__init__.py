"""The messages between Chorus and plugins: models, parser, rate limits, causes of refusal, and the signature of
messages to services. The receiver, the pods and the plugin check share this code. Nothing here talks to an API server.
"""
