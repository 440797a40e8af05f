"""An image that speaks the plugin protocol, in a Job of its own."""
