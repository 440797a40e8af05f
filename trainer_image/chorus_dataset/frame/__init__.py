"""The training frame: map, spool, split by content and profile rows, write them under a name derived from the content,
and remove frames that nothing uses.
"""
