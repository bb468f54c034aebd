"""Puts the parts of a process together. :mod:`trough.service` has them all."""
