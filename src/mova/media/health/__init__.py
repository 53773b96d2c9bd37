"""Fault detectors for video (``video``) and audio (``audio``), and the health gate (``gate``) that runs them."""
