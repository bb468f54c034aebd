"""What ``trough-load`` reads, and how it puts rows into a segment.

``formats`` turns CDX, CDXJ, CSV, JSON lines and other files into rows. ``segment_loader`` writes
the rows in batches over a client. :mod:`trough.cli.load_progress` shows the progress. The command
itself is :mod:`trough.load.main`.
"""
