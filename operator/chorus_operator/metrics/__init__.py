"""The metrics that /metrics serves. Labels come from closed sets: never a run, a Project, a namespace or free text."""
