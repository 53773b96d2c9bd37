"""Conditioning of the joint network by extra input channels, and the planner of cues."""
