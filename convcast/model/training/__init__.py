"""Training of the network, its validation, and the files that it writes."""
