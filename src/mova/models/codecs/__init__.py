"""Video and audio codecs."""
