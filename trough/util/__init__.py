"""Helpers that know nothing of Trough; any other package may import them."""
