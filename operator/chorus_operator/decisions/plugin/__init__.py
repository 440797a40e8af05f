"""What is decided about a Plugin: an image is described once, a service is asked again and again whether it is online.
`describe` is the way in, `state` the view that both share.
"""
