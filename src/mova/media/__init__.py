"""Video, audio and image files: :class:`~mova.media.clip.Clip`, and the only package that uses PyAV.

- ``clip``: frames and audio on one clock.
- ``encode``, with ``kinds``, ``mux`` and ``gif``: clips to files. ``sidecar``: a JSON document beside a file.
- ``decode``, with ``probe`` and ``readers``: files to clips. ``on_clock``: a video at another frame rate and size.
- ``image``: still images. ``sheet``: a clip drawn as one image.
- ``resample``, ``loudness``: audio at another rate; loudness and peak.
- ``remux``: video tracks copied byte for byte into another file. ``health``: detectors of faults.
"""
