"""What ``trough-load`` reads, and how it puts rows into a segment.

``records`` makes rows of CDX, CDXJ, CSV and JSON lines; ``segment_loader`` writes them in
batches over a client; ``progress`` shows how far it is. The command itself is
:mod:`trough.load.main`.
"""
