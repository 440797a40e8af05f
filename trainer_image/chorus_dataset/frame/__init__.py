"""The training frame: rows are mapped, spooled, split by content, profiled and written under a name made of what they
are; frames that nothing uses are removed.
"""
