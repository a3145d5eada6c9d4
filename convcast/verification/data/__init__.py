"""Inputs of a verification: ensembles and truths, opened from files of any origin."""
