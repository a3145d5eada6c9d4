"""Checks that this machine is ready to run convcast."""
