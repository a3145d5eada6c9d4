"""Forecast files: ensembles of members, and the products computed from them."""
