"""The plugin types, a folder each: what its Plugins need (requirements), what its runs use (resolve), what is made for
them (manifests), and what follows from what is observed (observe). `registry` lists them;
`decisions/run/plugin_type.py` says what a type must answer.
"""
