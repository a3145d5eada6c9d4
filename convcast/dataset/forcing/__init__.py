"""HRRR's forecasts in a dataset, which force a model: how they are stored, and how they are preprocessed."""
