"""Forecast files: ensembles and the products that are made of them."""
