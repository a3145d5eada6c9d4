"""The report of a verification: its files, figures and HTML page."""
