"""A service that answers a request as the most similar known one was answered. It knows the plugin protocol alone."""
