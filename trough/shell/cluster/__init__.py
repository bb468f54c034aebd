"""The shell's way to the cluster: queries in a background thread that runs a reactor."""
