"""Clips from requests: the high-level API, and checking and repairing what was made."""
