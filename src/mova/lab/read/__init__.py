"""Detectors: what happens in a clip, and when."""
