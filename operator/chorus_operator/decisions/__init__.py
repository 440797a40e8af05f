"""Pure decisions: no clock, no randomness, no environment, no I/O. The input is a view of what was observed. The output
is a `Decision`: children to create and delete, the status, Events, and when to requeue. Modules here are shared by
several kinds; each kind has its own package.
"""
