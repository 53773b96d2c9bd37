"""The kinds of rendered scenes, one file each."""
