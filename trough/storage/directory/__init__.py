"""Canonical storage in a directory of the file system."""
