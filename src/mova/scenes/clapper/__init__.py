"""Scenes that only measure: planned, drawn and sounded with the exact time of everything in them."""
