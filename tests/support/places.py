"""Where the repository lies, and real data beside it that some tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Real crawl data. It is no part of the project; tests that read it skip where it is absent.
SAMPLES = ROOT.parent / "shared" / "data"
