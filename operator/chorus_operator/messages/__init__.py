"""The receiver of what pods report."""
