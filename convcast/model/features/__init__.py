"""What the network is given and what it predicts: inputs, the reference forecast, and residuals from it."""
