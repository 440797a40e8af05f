"""A plugin type that Chorus does not have: two Jobs for each attempt, by role. It shows what a new type takes.

One folder (this one), one line of the registry (`operator`), and its models (`models`), which would be in chorus_api.
"""
