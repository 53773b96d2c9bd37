"""Videos, sounds and pictures: :class:`~mova.media.clip.Clip` and the only code that touches codecs (PyAV).

``clip`` what a video is, ``encode`` and ``decode`` videos to and from files, ``probe`` what a file holds,
``soundtrack`` new audio on an untouched video, ``on_clock`` a video at another rate, ``image`` still pictures,
``resample`` audio at another rate, ``loudness`` how loud, ``health`` whether a video is whole, ``sheet`` a video as
one picture.
``kinds``, ``mux``, ``gif``, ``readers``, ``track``, ``edits`` and ``remux`` are their parts.
"""
