"""A real Chromium, driven over its debugging pipe, for tests of the web console.

https://chromedevtools.github.io/devtools-protocol/ has the messages: JSON with a zero byte at the
end of each, by two descriptors. No port is opened and no library is needed.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from waiting import GIVE_UP, until_blocking

_AXE = ROOT / "tests/support/vendor/axe.min.js"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Chromium reads from descriptor 3 and writes to 4.
_START = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); \
os.execv(sys.argv[3], sys.argv[3:])"


class Chromium:
    """A browser with one page.

    :ivar complaints: what it wrote to its console as errors, violations of the policy included
    """

    def __init__(self, profile: Path) -> None:
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            pytest.skip(f"no browser here: install one of {', '.join(BROWSERS)}")
        theirs_in, self._write = map(_away, os.pipe())
        self._read, theirs_out = map(_away, os.pipe())
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", _START, str(theirs_in), str(theirs_out), found),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-dev-shm-usage", "--disable-background-networking"),
                *("--no-proxy-server", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._buffer = b""
        self._session = ""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command; its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            self._note(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + GIVE_UP
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            assert left > 0, "the browser does not answer"
            if select.select([self._read], [], [], left)[0]:
                data = os.read(self._read, 1 << 16)
                assert data, "the browser has ended"
                self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", str(details)))

    def show(self, url: str) -> None:
        """Load a page, as if somebody typed its address."""
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives in the page; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression once it is true."""
        tried = f"(() => {{ try {{ return {expression} }} catch {{ return null }} }})()"
        return until_blocking(lambda: self.value(tried), expression)

    def wait_for_text(self, text: str) -> None:
        """Return once a text is on the page."""
        self.wait_for(f"document.body.innerText.includes({json.dumps(text)})")

    def click(self, label: str) -> None:
        """Click the button with this label, once it can be clicked."""
        buttons = "[...document.querySelectorAll('button:enabled')]"
        found = f"{buttons}.find(b => b.innerText == {json.dumps(label)})"
        self.wait_for(f"!!{found}")
        self.value(f"{found}.click()")

    def look_like(self, scheme: str, width: int) -> None:
        """Be a screen of so many pixels in the colours ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        screen = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **screen)

    def serious_faults(self) -> list[tuple[str, list[str]]]:
        """What axe-core finds serious on the page: rules, and the elements that break them."""
        self.value(_AXE.read_text() + ";0")
        return [
            (each["id"], [node["html"] for node in each["nodes"]])
            for each in self.value("axe.run().then(found => found.violations)")
            if each["impact"] in ("serious", "critical")
        ]

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key, such as ``Tab``; 2 is the modifier Ctrl."""
        code = {"Tab": 9, "Enter": 13}[key]
        # Only a key with a text submits a form.
        text = {"text": "\r"} if key == "Enter" and not modifiers else {}
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                **{"type": kind, "key": key, "code": key, "modifiers": modifiers, **text},
                windowsVirtualKeyCode=code,
            )

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Write what is seen to a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def _away(descriptor: int) -> int:
    """The same pipe under a descriptor that is neither 3 nor 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
