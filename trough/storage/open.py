"""The canonical storage that a URL names.

::

    file:///var/lib/trough/canonical
    webhdfs://namenode:9870/trough
    webhdfs://namenode1:9870,namenode2:9870/trough?user=trough
    swebhdfs://namenode:9871/trough?auth=kerberos

Nothing is connected to yet: that is :meth:`trough.storage.Storage.open`. A backend is
imported when a URL asks for it, and not before.
"""

from __future__ import annotations

import getpass
import importlib
import urllib.parse
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

from twisted.internet.interfaces import IReactorFromThreads

from trough import errors
from trough.storage import Storage
from trough.storage.threaded import ThreadedStorage
from trough.tls.blocking import client_context
from trough.util.confined_files import OwnFiles
from trough.util.private_files import GroupAccess
from trough.util.quoting import quoted

if TYPE_CHECKING:
    from trough.storage.hdfs.webhdfs import HdfsRetryPolicy, MakeClient

#: WebHDFS's ports since Hadoop 3, for plain and TLS.
PORT, TLS_PORT = 9870, 9871


def open_storage(
    url: str,
    reactor: IReactorFromThreads,
    *,
    user: str | None = None,
    threads: int = 2,
    patience: HdfsRetryPolicy | None = None,
    own: OwnFiles | None = None,
    proxy: str | None = None,
    ca: str | None = None,
    group: GroupAccess = GroupAccess.NONE,
) -> Storage:
    """The storage at `url`, not yet opened.

    :param user: on whose behalf HDFS is asked, if the URL names none; without either, the user
        that this process runs as
    :param threads: how many files may be moved at once
    :param patience: how long HDFS is waited for
    :param proxy: URL of the HTTP proxy through which HDFS is reached, or None
    :param ca: file with the certificate of the CA that signed those of HDFS's servers; None:
        those that *requests* knows
    :param own: files that are never segments, though a link in a directory may lead to them
    :param group: what the group of a directory may do with what is made there
    :raises trough.errors.BadSettings: naming what in the URL cannot be used
    """
    if threads < 1:
        raise errors.BadSettings(f"at least one thread is needed to copy files, not {threads}")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        from trough.storage.directory.backend import DirectoryBackend

        backend = DirectoryBackend(_directory_root(url, parts), own=own, group=group)
        return ThreadedStorage(url, backend, reactor, threads)
    if parts.scheme in _HDFS_SCHEMES:
        if ca is not None:
            client_context(ca, "HDFS_TLS")
        return _open_hdfs(url, parts, reactor, threads, user, patience, proxy, ca)
    raise _refused(
        url,
        f"{parts.scheme or 'no'} scheme is not known",
        "use file:///path, webhdfs://namenode:9870/path or swebhdfs://namenode:9871/path",
    )


_HDFS_SCHEMES = {"webhdfs": "http", "swebhdfs": "https", "webhdfss": "https"}


def _refused(url: str, what: str, hint: str) -> errors.BadSettings:
    return errors.BadSettings(f"canonical storage {quoted(url)}: {what}", hint)


def _directory_root(url: str, parts: SplitResult) -> Path:
    if parts.netloc not in ("", "localhost"):
        raise _refused(
            url, f"{quoted(parts.netloc)} stands where a host would", "three slashes: file:///path"
        )
    if parts.query or parts.fragment:
        raise _refused(url, "nothing can follow the path", "write ? and # as %3F and %23")
    return Path(_root(url, parts))


def directory_of(url: str) -> Path | None:
    """The root of a storage that is a directory; None for another one.

    :raises trough.errors.BadSettings: the URL's path cannot be used
    """
    parts = urllib.parse.urlsplit(url)
    return _directory_root(url, parts) if parts.scheme == "file" else None


def _open_hdfs(
    url: str,
    parts: SplitResult,
    reactor: IReactorFromThreads,
    threads: int,
    user: str | None,
    patience: HdfsRetryPolicy | None,
    proxy: str | None,
    ca: str | None,
) -> Storage:
    from trough.storage.hdfs.backend import HdfsBackend
    from trough.storage.hdfs.webhdfs import HdfsRetryPolicy, WebHdfs

    root = _root(url, parts)
    if ":" in root:
        raise _refused(url, "HDFS has no paths with a colon", "choose another path")
    options = _options(url, parts)
    namenodes = _namenodes(url, parts)
    make_client = _client_maker(url, namenodes, options, user)
    web = WebHdfs(namenodes, make_client, patience or HdfsRetryPolicy(), proxy, ca)
    return ThreadedStorage(url, HdfsBackend(web, root), reactor, threads)


def _root(url: str, parts: SplitResult) -> str:
    root = urllib.parse.unquote(parts.path)
    if not root.startswith("/") or not root.isprintable():
        raise _refused(url, "the path has to be absolute, printable text", "write /path after it")
    if ".." in PurePosixPath(root).parts:
        raise _refused(url, "the path goes through ..", "write it without")
    # One spelling for each root: //a/./b/ is /a/b.
    return "/" + "/".join(PurePosixPath(root).parts[1:])


def _options(url: str, parts: SplitResult) -> dict[str, str]:
    try:
        options = dict(urllib.parse.parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise _refused(url, f"{quoted(parts.query)} is no list of options", "?user=NAME") from error
    unknown = sorted(options.keys() - {"user", "auth"})
    if unknown or parts.fragment:
        what = unknown[0] if unknown else f"#{parts.fragment}"
        raise _refused(url, f"{quoted(what)} is not an option", "user=NAME and auth=kerberos are")
    if options.get("auth", "simple") not in ("simple", "kerberos"):
        raise _refused(
            url, f"auth={options['auth']} is not known", "auth=simple and auth=kerberos are"
        )
    return options


def _namenodes(url: str, parts: SplitResult) -> str:
    """The NameNodes' own URLs, as the package *hdfs* takes them."""
    if "@" in parts.netloc:
        raise _refused(url, "a user does not go before the host", "append ?user=NAME")
    scheme = _HDFS_SCHEMES[parts.scheme]
    default = PORT if scheme == "http" else TLS_PORT
    found = []
    for each in parts.netloc.split(","):
        try:
            one = urllib.parse.urlsplit(f"//{each}")
            host, port = one.hostname, one.port
        except ValueError as error:
            raise _refused(
                url, f"{quoted(each)} is no host and port: {error}", "host:9870"
            ) from error
        if not host:
            raise _refused(url, "no NameNode is named", "webhdfs://namenode:9870/path")
        shown = f"[{host}]" if ":" in host else host
        found.append(f"{scheme}://{shown}:{port or default}")
    return ";".join(found)


def _client_maker(
    url: str, namenodes: str, options: dict[str, str], user: str | None
) -> MakeClient:
    if options.get("auth") == "kerberos":
        if "user" in options:
            raise _refused(url, "with Kerberos the ticket says who the user is", "leave out user=")
        return _kerberos(url, namenodes)
    import hdfs

    name = options.get("user") or user or getpass.getuser()
    return lambda session, timeout: hdfs.InsecureClient(
        namenodes, user=name, session=session, timeout=timeout
    )


def _kerberos(url: str, namenodes: str) -> MakeClient:
    try:
        client: Callable[..., Any] = importlib.import_module("hdfs.ext.kerberos").KerberosClient
    except ImportError as error:
        raise _refused(
            url, f"Kerberos is not installed: {error}", "pip install 'trough[kerberos]'"
        ) from error
    return lambda session, timeout: client(namenodes, session=session, timeout=timeout)
