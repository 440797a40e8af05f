"""The plugin types, a folder each: what Plugins need (requirements), what runs use (resolve), which objects an attempt
has (manifests), and what follows from their observed state (observe). `registry` lists the types;
`decisions/run/plugin_type.py` declares their interface.
"""
