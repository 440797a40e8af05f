"""What the measurements of the operator's cost share: a control plane with it, lines of runs, and their figures."""
