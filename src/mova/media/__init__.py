"""Films, sounds and pictures: :class:`~mova.media.clip.Clip` and the only code that touches codecs (PyAV).

``clip`` what a film is, ``encode`` and ``decode`` films to and from files, ``probe`` what a file holds,
``soundtrack`` a new sound on an untouched film, ``on_clock`` a film at another rate, ``image`` still pictures,
``resample`` sound at another rate, ``loudness`` how loud, ``health`` whether a film is whole, ``sheet`` a film as one picture.
``kinds``, ``mux``, ``gif``, ``readers``, ``track``, ``edits`` and ``remux`` are their parts.
"""
