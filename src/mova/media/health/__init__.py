"""Fault detectors for videos and audio, and the health gate."""
