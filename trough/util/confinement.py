"""What a process that runs users' SQL gives up, so that a bug in SQLite gains nothing.

* It gains no privileges by starting programs (``no_new_privs``), and starts none.
* A seccomp filter takes away the network, other processes, and calls that administer the system.
* Landlock leaves it the files that it needs: Python's to read, and those that it was given.

PyPI has a development version for one (``landlock``), and for the other a package without a
release since 2021 that needs another library (``pyseccomp``). So the few calls are made here, by
ctypes. On an unknown kernel or processor the process runs without that part, and its parent logs
that once (:func:`missing`).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import trough

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_GET_SECCOMP = 38, 22, 21
_SECCOMP_MODE_FILTER = 2

# One number on all processors.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION, _LANDLOCK_PATH_BENEATH = 1, 1

# Landlock's rights on files: bits 0-12 since its first version, REFER and TRUNCATE later.
_READ_FILE, _READ_DIR, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_ALL_OF_FIRST = (1 << 13) - 1
_LATER = {2: 1 << 13, 3: _TRUNCATE, 5: 1 << 15}
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE
_OF_A_FILE = _READ_FILE | _WRITE_FILE | _TRUNCATE

#: Audit's number of a processor, and of each system call that is refused.
_PROCESSORS = {
    "x86_64": (0xC000003E, 0),
    "aarch64": (0xC00000B7, 1),
}
_REFUSED = {
    # network; what is open already goes on working
    **{"socket": (41, 198), "socketpair": (53, 199), "bind": (49, 200), "listen": (50, 201)},
    **{"connect": (42, 203), "accept": (43, 202), "accept4": (288, 242)},
    # other processes and programs
    **{"clone": (56, 220), "fork": (57, None), "vfork": (58, None), "execve": (59, 221)},
    **{"execveat": (322, 281), "kill": (62, 129), "tkill": (200, 130)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424)},
    # ways round a filter, and wide targets in the kernel
    **{"io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241)},
    **{"userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217)},
    **{"request_key": (249, 218), "open_by_handle_at": (304, 265)},
    # administration
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"setns": (308, 268), "unshare": (272, 97), "init_module": (175, 105)},
    **{"finit_module": (313, 273), "kexec_load": (246, 104), "reboot": (169, 142)},
    **{"mount_setattr": (442, 442), "move_mount": (429, 429), "open_tree": (428, 428)},
    **{"fsopen": (430, 430), "quotactl": (179, 60), "swapon": (167, 224), "acct": (163, 89)},
}
_CLONE3 = 435  # answered as unknown: the C library then tries clone

# Of classic BPF: load a word, jump if equal or not less, return.
_LOAD, _JUMP_EQUAL, _JUMP_NOT_LESS, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class Confinement:
    """The files that a process may use, besides Python's own.

    :ivar read: directories whose files it may read
    :ivar write: directories in which it may also make, change and remove files
    :ivar files: whether the process is kept to these
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    files: bool = False

    def argument(self) -> str:
        """Itself for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_argument(cls, text: str) -> Confinement:
        """What :meth:`argument` made."""
        read = json.loads(text)
        return cls(tuple(read["read"]), tuple(read["write"]), read["files"])


def confine(confinement: Confinement) -> None:
    """Give up everything else, for good. Call it when all modules are loaded."""
    time.tzset()
    os.umask(0o077)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return  # neither of the others can be had without
    if confinement.files:
        _keep_to_files(library, confinement)
    _filter_calls(library)


def missing() -> list[str]:
    """What this kernel does not offer of it, in words."""
    library = ctypes.CDLL(None, use_errno=True)
    found = []
    if _landlock_version(library) < 1:
        found.append("Landlock (files)")
    if platform.machine() not in _PROCESSORS or library.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        found.append("seccomp (network, processes)")
    return found


# -- files ----------------------------------------------------------------------------


def _landlock_version(library: ctypes.CDLL) -> int:
    return int(library.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION))


def _keep_to_files(library: ctypes.CDLL, confinement: Confinement) -> None:
    version = _landlock_version(library)
    if version < 1:
        return
    handled = _ALL_OF_FIRST
    for since, right in _LATER.items():
        handled |= right if version >= since else 0
    rules = struct.pack("Q", handled)
    ruleset = library.syscall(_LANDLOCK_CREATE, rules, len(rules), 0)
    if ruleset < 0:
        return
    try:
        for path in (*_pythons_own(), *confinement.read):
            _allow(library, ruleset, path, _READ & handled)
        for path in confinement.write:
            _allow(library, ruleset, path, _WRITE & handled)
        if library.syscall(_LANDLOCK_RESTRICT, ruleset, 0):
            number = ctypes.get_errno()
            raise OSError(number, f"Landlock: {os.strerror(number)}")
    finally:
        os.close(ruleset)


def _pythons_own() -> Iterable[str]:
    """Where modules, libraries and times of the world lie, and SQLite's randomness."""
    package = Path(trough.__file__).parent
    libraries = [path for path in sys.path if path and Path(path) != package.parent]
    yield from (sys.prefix, sys.base_prefix, str(package), *libraries)
    yield from ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/etc/ld.so.cache")
    yield from ("/usr/share/zoneinfo", "/etc/localtime", "/dev/urandom", "/dev/null")


def _allow(library: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there cannot be used
    try:
        if not Path(path).is_dir():
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        if library.syscall(_LANDLOCK_ADD, ruleset, _LANDLOCK_PATH_BENEATH, rule, 0):
            number = ctypes.get_errno()
            raise OSError(number, f"Landlock: {os.strerror(number)}", path)
    finally:
        os.close(descriptor)


# -- system calls ---------------------------------------------------------------------


class _Program(ctypes.Structure):
    """The kernel's ``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter_calls(library: ctypes.CDLL) -> None:
    program = filter_program(platform.machine())
    if not program:
        return
    # As a pointer: by its zero bytes a text would end.
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = ctypes.cast(buffer, ctypes.c_char_p)
    what = _Program(len(program) // 8, pointer)
    library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(what), 0, 0)


def filter_program(machine: str) -> bytes:
    """The BPF program for a processor; empty for one that is not known."""
    if machine not in _PROCESSORS:
        return b""
    audit, column = _PROCESSORS[machine]
    refuse = _step(_RETURN, _ERROR | errno.EPERM)
    steps = [_step(_LOAD, 4), _step(_JUMP_EQUAL, audit, 1, 0), refuse, _step(_LOAD, 0)]
    if machine == "x86_64":
        steps += [_step(_JUMP_NOT_LESS, _X32, 0, 1), refuse]
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            steps += [_step(_JUMP_EQUAL, number, 0, 1), refuse]
    steps += [_step(_JUMP_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
