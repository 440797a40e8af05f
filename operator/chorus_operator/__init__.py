"""The control plane: watches, decides, acts."""
