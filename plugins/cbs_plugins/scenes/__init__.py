"""Formats of 3D scenes, one file each; the entry point's name is the file's suffix."""
