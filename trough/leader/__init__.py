"""What only the leader does: its term, the storage scan, the placement, the cluster's status."""
