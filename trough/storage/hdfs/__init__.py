"""Canonical storage in HDFS, by WebHDFS."""
