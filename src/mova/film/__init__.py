"""Films of several shots: the shot list, its cuts on the clock, the cache of rendered shots, the join."""
