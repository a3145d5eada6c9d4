"""The picture room: maps of forecasts, and the look that all figures share. Reads what others opened, writes PNG."""
