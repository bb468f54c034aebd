"""What Trough needs of the SQLite library, and pysqlite3 has no call for.

pysqlite3 initialises SQLite when it is imported, and has no call for these settings. But its
shared object is SQLite with all its public functions. These settings matter most for a process
that opens thousands of small databases, one after the other on one thread. By default SQLite
sets memory aside for each connection. Without it, opening one takes half the time and keeping
one takes 35 kB and not 150 kB (bench/bench_pool.py measures both). Where the library cannot be
reached this way, only that gain is lost.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Numbers of SQLite's C interface.
_SQLITE_CONFIG_SINGLETHREAD = 1
_SQLITE_CONFIG_PAGECACHE = 7
_SQLITE_CONFIG_LOOKASIDE = 13
_SQLITE_CONFIG_MMAP_SIZE = 22
_SQLITE_DBCONFIG_DEFENSIVE = 1010
_SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE = 1006

#: Bytes of each file that SQLite may map into memory. Pages that are read this way are
#: the operating system's cache, shared by all processes and given back under pressure.
MMAP_SIZE = 1 << 36


def configure_for_one_thread() -> bool:
    """Make the settings for a process that uses SQLite on one thread alone.

    :return: whether they are in force; not so where SQLite is in use already, or does
        not take them
    """
    if "pysqlite3" in sys.modules:
        return False
    library = _library()
    if library is None:
        return False
    integer, long = ctypes.c_int, ctypes.c_longlong
    try:
        config = library.sqlite3_config
        answers = (
            config(integer(_SQLITE_CONFIG_SINGLETHREAD)),
            config(integer(_SQLITE_CONFIG_PAGECACHE), None, integer(0), integer(0)),
            config(integer(_SQLITE_CONFIG_LOOKASIDE), integer(0), integer(0)),
            config(integer(_SQLITE_CONFIG_MMAP_SIZE), long(MMAP_SIZE), long(MMAP_SIZE)),
        )
    except AttributeError:
        return False
    return not any(answers)


_ENTRY_POINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)

#: Bytes of a connection object in which its handle is looked for.
_OBJECT_SIZE = 128


class DatabaseHandles:
    """What pysqlite3 has no call for, done to a connection by SQLite's own handle of it.

    The place of the handle in a connection object is found once, and not assumed. SQLite
    passes the handle of a new connection to each registered extension. The object is then
    searched for that value.

    :param connect: opens a database in memory
    :ivar available: whether the library could be reached
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.available = False
        library = _library()
        try:
            if library is None:
                return
            self._config = library.sqlite3_db_config
            self._drop_modules = library.sqlite3_drop_modules
            self._extended_codes = library.sqlite3_extended_result_codes
            self._last_code = library.sqlite3_extended_errcode
            place = _place_of_handle(library, connect)
        except AttributeError:
            return
        self._drop_modules.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._last_code.argtypes = [ctypes.c_void_p]
        self._extended_codes.argtypes = [ctypes.c_void_p, ctypes.c_int]
        if place is not None:
            self._place = place
            self.available = True

    def _handle(self, connection: object) -> int | None:
        return ctypes.c_void_p.from_address(id(connection) + self._place).value

    def tell_all(self, connection: object) -> None:
        """Have errors carry SQLite's extended codes."""
        if self.available:
            self._extended_codes(self._handle(connection), 1)

    def last_code(self, connection: object) -> int:
        """The extended code of what went wrong last on a connection; 0 if it is not known."""
        return self._last_code(self._handle(connection)) if self.available else 0

    def defend(self, connection: object) -> None:
        """Let SQL write neither the tables that a virtual table keeps its content in, nor
        ``sqlite_schema``. The virtual table itself still can."""
        if self.available and not self._switch_on(connection, _SQLITE_DBCONFIG_DEFENSIVE):
            raise RuntimeError("SQLite does not take its defensive mode")

    def keep_wal(self, connection: object) -> bool:
        """Have the WAL stay as it is when `connection` is closed; whether that is in force."""
        return self.available and self._switch_on(connection, _SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)

    def _switch_on(self, connection: object, option: int) -> bool:
        on, now = ctypes.c_int(1), ctypes.c_int(0)
        handle = ctypes.c_void_p(self._handle(connection))
        self._config(handle, ctypes.c_int(option), on, ctypes.byref(now))
        return bool(now.value)

    def drop_modules(self, connection: object) -> None:
        """Have a connection know no kind of virtual table any more."""
        if self.available:
            self._drop_modules(self._handle(connection), None)


def _place_of_handle(library: ctypes.CDLL, connect: Callable[[], Any]) -> int | None:
    """Bytes from the beginning of a connection object to its handle; None if it is not found."""
    found: list[int] = []

    def entered(database: int, message: int, routines: int) -> int:
        found.append(database)
        return 0

    entry = _ENTRY_POINT(entered)
    if library.sqlite3_auto_extension(entry):
        return None
    try:
        connection = connect()
    finally:
        library.sqlite3_cancel_auto_extension(entry)
    try:
        size = ctypes.sizeof(ctypes.c_void_p)
        for place in range(0, min(sys.getsizeof(connection), _OBJECT_SIZE), size):
            if ctypes.c_void_p.from_address(id(connection) + place).value in found:
                return place
        return None
    finally:
        connection.close()


def _library() -> ctypes.CDLL | None:
    # Finding the package must not import it, for that initialises SQLite.
    package = importlib.machinery.PathFinder.find_spec("pysqlite3")
    if package is None or not package.submodule_search_locations:
        return None
    module = importlib.machinery.PathFinder.find_spec(
        "_sqlite3", [str(Path(place)) for place in package.submodule_search_locations]
    )
    if module is None or module.origin is None:
        return None
    try:
        return ctypes.CDLL(module.origin)
    except OSError:
        return None
