"""What Chorus and plugins say to each other: the messages' models, their parser, how many of them are taken, why one is
refused, and the signature of what services are sent. The receiver, the pods and the check of a plugin use the same
code; nothing here talks to an API server.
"""
