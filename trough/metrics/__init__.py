"""What a process counts, and how Prometheus reads it.

``totals.py`` are plain numbers, which the paths of requests add to; ``exposition.py`` turns them
and a status into metrics when somebody asks. No label grows with the number of segments.
"""
