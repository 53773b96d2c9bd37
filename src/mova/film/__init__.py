"""Films of several shots: shot lists (``shots``), their plan on the clock (``plan``), rendering (``render``), the film's
audio (``audio``), and the cache of rendered shots (``cache``) with its keys (``keys``)."""
