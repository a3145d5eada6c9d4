"""Preprocess archived hours into a dataset: decode, check, ingest, repair."""
