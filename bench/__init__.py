"""Measurements: each prints figures, and fails if one is over its limit."""
