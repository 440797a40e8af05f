"""The kit behind `chorus plugin check`: it runs a plugin as a pod would, receives its messages as the operator does,
and judges by rules what was observed. `execution` and `service_check` run, `observed` holds facts alone, `judge_*` and
the rulebooks decide; it needs neither a cluster nor the operator.
"""
