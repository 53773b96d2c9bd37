"""Metrics that need trained weights; each takes them from a path that the user gives, and runs without a network."""
