"""Sync of audio and video: events to offsets, scores and intervals."""
