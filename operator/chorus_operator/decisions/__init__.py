"""Pure decisions: no clock, no randomness, no environment, no I/O. What is observed comes in as a view, what is to be
done goes out as a `Decision`: children to make and remove, the status, Events, and when to decide again. Here is what
several kinds share; each kind has a package of its own.
"""
