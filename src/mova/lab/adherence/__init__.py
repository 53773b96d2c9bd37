"""Whether a clip is what its prompt asked for."""
