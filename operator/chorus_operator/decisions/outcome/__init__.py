"""One table from what is observed of a run's Jobs, pods, reports and Events to what is said of it.

`table` has the rows in order and asks them, `model` the observation and the outcome, the other modules the rows.
"""
