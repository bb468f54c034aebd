"""Trough: millions of small SQLite databases, served as one database."""

__version__ = "1.1.0"
