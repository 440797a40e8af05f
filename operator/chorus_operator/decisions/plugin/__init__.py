"""What all plugin types share to decide about a Plugin: `state` has the view, `status` the status and its conditions.
The rules of a type are in its folder of `plugin_types`.
"""
