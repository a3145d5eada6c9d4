"""The hourly cycle, the status of a workspace and the checks of a machine."""
