"""What a worker does: local copies, write locks, promotion, and the answers to SQL."""
