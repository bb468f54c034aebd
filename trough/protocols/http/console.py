"""The files of the web console, as they lie in ``trough/console``.

They are few and small, are read once, and hold no data: the page asks for all that it shows by the
calls that programs use. The policy lets it load nothing from elsewhere and run no inline script.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from twisted.web import http

import trough
from trough import errors
from trough.protocols.http.request import Request, write_response
from trough.util.quoting import quoted

_FOLDER = Path(trough.__file__).parent / "console"

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}

_HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}


@functools.cache
def _files() -> dict[str, bytes]:
    found = (path for path in sorted(_FOLDER.rglob("*")) if path.suffix in _TYPES)
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in found}


def answer_file(request: Request, name: str) -> None:
    """Send one of the console's files.

    :param name: below the folder; empty for the page itself
    :raises trough.errors.NotFound: there is none
    """
    name = name or "index.html"
    content = _files().get(name)
    if content is None:
        raise errors.NotFound(f"the console has no file {quoted(name, 80)}")
    for header, value in _HEADERS.items():
        request.setHeader(header, value)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    if request.setETag(tag.encode()) is http.CACHED:
        request.finish()
    else:
        write_response(request, http.OK, _TYPES[Path(name).suffix], content)


def redirect_to_console(request: Request) -> None:
    """Lead a browser from the bare address to the page."""
    request.setHeader(b"location", b"/console/")
    write_response(request, http.FOUND, b"text/plain; charset=utf-8", b"/console/\n")
