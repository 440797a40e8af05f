"""The kit behind `chorus plugin check`: it runs a plugin as a pod would, receives its messages as the operator does,
and judges what it observed by rules. `execution` and `service_check` run the plugin, `observed` holds only facts,
`judge_*` and the rulebooks decide. It needs neither a cluster nor the operator.
"""
