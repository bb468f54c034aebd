"""The systemd units in ``etc/``."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ETC = Path(__file__).parent.parent.parent / "etc"
UNITS = sorted(path.name for path in ETC.glob("*.service"))

#: What systemd itself calls well protected is at most this much exposed, of 10.
MOST = 2.0


def analyze(*arguments):
    """What ``systemd-analyze`` says."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    ran = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60
    )
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_leaves_little_exposed(unit):
    """By systemd's own measure, without a running systemd."""
    said = analyze("security", "--offline=true", "--no-pager", str(ETC / unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= MOST, said


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_understood(unit):
    """No directive is misspelt, or of a later systemd."""
    said = analyze("verify", str(ETC / unit))
    assert [
        line for line in said.splitlines() if unit in line and "not executable" not in line
    ] == []
