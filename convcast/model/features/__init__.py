"""Inputs of the network, the reference forecast, and the residuals from it that the network predicts."""
