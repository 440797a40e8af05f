"""What is decided about a TrainingRun, from its acceptance to its published model. `decide` is the way in, `state` the
view and the draft that its rules share.
"""
