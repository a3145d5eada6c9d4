"""The neural network: its layers, and their compilation."""
