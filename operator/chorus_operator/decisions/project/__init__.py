"""What is decided about a Project: its claim, its training frame, which runs are made and which of them may start, what
becomes of those that have ended. `decide` is the way in, `state` the view and the draft that its rules share.
"""
