"""Gridded files of any program: opened by their format, with their fields, dimensions, units and points identified."""
