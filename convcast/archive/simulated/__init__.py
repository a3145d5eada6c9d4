"""The simulated archive: a world of storms, and a server that publishes it as NOAA publishes HRRR."""
