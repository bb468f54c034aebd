"""Fetch what a NameNode and a DataNode need, once: run before the tests of HDFS.

Uses Maven as it is set up on this machine, and keeps the jars in ``.cache/hadoop`` of
the checkout, or in ``$TROUGH_CACHE/hadoop``. Where Java or Maven is missing it says so and
succeeds, since those tests then skip; with ``CI=true`` in the environment it fails.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

POM = Path(__file__).with_name("hadoop-pom.xml")


def jars() -> Path:
    """The directory of the jars, whether or not they were fetched: another one for
    each version of the list of what is needed."""
    default = Path(__file__).parents[2] / ".cache"
    cache = Path(os.environ.get("TROUGH_CACHE") or default)
    version = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return cache.absolute() / "hadoop" / version


def must_have_it() -> bool:
    """Whether to do without HDFS is a failure."""
    return os.environ.get("CI", "").lower() == "true"


def why_not() -> str:
    """Why HDFS cannot be run here, or an empty text."""
    if shutil.which("java") is None:
        return "no HDFS here: Java 17 is not installed (Debian: openjdk-17-jre-headless)"
    if not jars().is_dir():
        return "no HDFS here: its jars are not fetched (run: python tests/support/fetch_hadoop.py)"
    return ""


def fetch() -> str:
    """Fetch the jars unless they are there.

    :return: why that was not possible, or an empty text
    """
    target = jars()
    if target.is_dir():
        return ""
    if shutil.which("mvn") is None:
        return "no HDFS here: Maven is not installed (Debian: maven)"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.unfinished")
    done = subprocess.run(
        [
            "mvn",
            "--batch-mode",
            "--quiet",
            f"--file={POM}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={unfinished}",
        ],
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        return f"no HDFS here: Maven failed with status {done.returncode}"
    try:
        unfinished.rename(target)
    except OSError:  # somebody else was faster
        shutil.rmtree(unfinished)
    return ""


def main() -> int:
    reason = fetch() or why_not()
    print(reason or f"Hadoop's jars are in {jars()}")
    return 1 if reason and must_have_it() else 0


if __name__ == "__main__":
    sys.exit(main())
