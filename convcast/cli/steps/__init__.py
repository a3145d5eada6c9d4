"""Verbs that take one step from the archive to scores or products, one module for each verb."""
