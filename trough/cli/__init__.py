"""What all command-line tools share: progress, outage notices, safe text, the metadata URL."""
