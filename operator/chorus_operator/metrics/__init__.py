"""What /metrics shows. Labels are closed sets of words: never a run, a Project, a namespace or free text."""
