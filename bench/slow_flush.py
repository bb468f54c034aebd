"""A disk for measurements whose flushes take a given time, each process having one of its own.

Copies of one write on one disk wait for each other, which two machines do not. So the files are in
memory, and a library in each process delays its flushes by the same time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("slow_flush.c")

#: Executors get few variables of the environment, and LD_PRELOAD is none of them. Python runs this
#: module at its start, and it starts the same program again with the library.
_AT_START = """\
import os, sys
if "LD_PRELOAD" not in os.environ:
    os.execve(sys.executable, sys.orig_argv, {{**os.environ, "LD_PRELOAD": {library!r}}})
"""


def environment(directory: Path, milliseconds: float) -> dict[str, str]:
    """Variables for processes whose flushes take so long.

    :param directory: for the library
    :raises SystemExit: there is no C compiler
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("--flush-ms needs a C compiler (cc); with 0 it measures the disk itself")
    directory.mkdir()
    library = directory / "slow_flush.so"
    delay = f"-DMICROSECONDS={round(milliseconds * 1000)}"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", delay, "-o", library, SOURCE, "-ldl"], check=True
    )
    (directory / "sitecustomize.py").write_text(_AT_START.format(library=str(library)))
    paths = [str(directory), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
