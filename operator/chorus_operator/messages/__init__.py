"""The HTTPS receiver of what pods and services report."""
