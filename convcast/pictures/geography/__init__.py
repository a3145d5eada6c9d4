"""The base map: water, coasts, borders, and the names of places."""
