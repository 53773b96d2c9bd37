"""Copy video tracks byte for byte into another file.

- ``soundtrack``: new audio with the unchanged video stream of a file. ``silent``: a clip written without audio.
- ``track``: packets and times of a video stream. ``edits``: edit lists. ``container``: the target file of a copy.
"""
