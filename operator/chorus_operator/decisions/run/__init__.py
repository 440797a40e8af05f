"""Decisions about a TrainingRun, from acceptance to the published model. `decide` is the entry point; `state` has the
view and the draft that the rules share.
"""
