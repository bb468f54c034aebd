"""Results in the formats that people and programs read: the shell's, and those of HTTP.

``text.py`` has the formats of text, ``columnar.py`` Parquet and Arrow. A renderer takes rows
and returns text; it does not know who asked.
"""
