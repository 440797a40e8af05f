"""Decisions about a Project: its claim, its training frame, which runs to create and admit, and what happens to ended
runs. `decide` is the entry point; `state` has the view and the draft that the rules share.
"""
