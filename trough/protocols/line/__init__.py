"""The line protocol: bytes to messages, its servers and its client."""
