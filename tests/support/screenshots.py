"""The pictures of the documents, made by a real Chromium from a whole Trough with the example.

    python tests/support/screenshots.py [DIRECTORY]

The pages are those of ``docs/tour.rst`` and ``README.rst``; the directory is ``docs/images``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from chromium import Chromium
from places import ROOT
from processes import TroughProcess, http, ports_of_all, wait_until_known

QUERY = {
    "which": "^example",
    "sql": "SELECT host, count(*) AS captures FROM crawled_url GROUP BY host ORDER BY 2 DESC",
    "run": "yes",
}

#: By picture: the address behind ``#/``, its height in pixels, and a text to wait for.
PAGES = {
    "query": (f"query?{urlencode(QUERY)}", 1010, "4 rows in"),
    "segments": ("segments", 420, "3 segments"),
    "segment": ("segments/example-1", 900, "a sample:"),
    "cluster": ("cluster", 900, "No problems."),
}


def make(directory: Path) -> list[Path]:
    """Write a picture of each page; their paths."""
    made = []
    with tempfile.TemporaryDirectory() as home:
        ports = ports_of_all()
        process = TroughProcess("trough", ports, ("--home", f"{home}/var", "--example"))
        try:
            process.wait_ready()
            wait_until_known(f"sqlite://{home}/var/registry.db")
            url = f"http://127.0.0.1:{ports['SYNC_SERVER_PORT']}/"
            for _ in range(50):
                http("GET", f"{url}gather?matching=.&sql=SELECT+count(*)+FROM+crawled_url")
            with Chromium(Path(home) / "profile") as page:
                for name, (place, height, text) in PAGES.items():
                    page.look_like("light", 1000)
                    screen = {"width": 1000, "height": height, "deviceScaleFactor": 1}
                    page.call("Emulation.setDeviceMetricsOverride", **screen, mobile=False)
                    page.show("about:blank")
                    page.show(f"{url}console/#/{place}")
                    page.wait_for_text(text)
                    if name == "query":
                        page.wait_for_text("3 segments")
                        page.click("Chart")
                    # A curve needs samples, of which the server takes one every ten seconds.
                    drawn = "document.querySelectorAll('canvas').length"
                    page.wait_for(f"{drawn} >= document.querySelectorAll('figure').length")
                    made.append(directory / f"console-{name}.png")
                    page.screenshot(made[-1])
        finally:
            process.kill()
    return made


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs/images"):
        print(path)
