"""The command line: one file per command, `console.py` prints."""
