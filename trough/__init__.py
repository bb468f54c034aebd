"""Trough: millions of small SQLite databases, served as one database."""

__version__ = "1.0.0.dev0"
