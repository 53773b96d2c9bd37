"""Video tracks copied byte for byte into another container."""
