"""Settings of the SQLite library that have to be made before it is used.

pysqlite3 initialises SQLite when it is imported, and has no call for these settings, but
its shared object is SQLite with all its public functions. A process that opens thousands
of small databases, one after the other on one thread, gains most of its speed here:
without the memory that SQLite sets aside for each connection, opening one takes half the
time and keeping one takes 35 kB and not 150 kB (bench/bench_pool.py measures both). Where
the library cannot be reached this way nothing is lost but that.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import sys
from pathlib import Path

# Numbers of SQLite's C interface.
_SQLITE_CONFIG_SINGLETHREAD = 1
_SQLITE_CONFIG_PAGECACHE = 7
_SQLITE_CONFIG_LOOKASIDE = 13
_SQLITE_CONFIG_MMAP_SIZE = 22

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
