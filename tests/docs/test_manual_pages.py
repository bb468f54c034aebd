"""Completion scripts and manual pages of the console scripts."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys

import pytest
from places import ROOT

from trough.admin import command_line
from trough.cli import up
from trough.load import options
from trough.shell import main as shell

PARSERS = {
    "trough": up.parser,
    "trough-shell": shell.parser,
    "trough-load": options.parser,
    "trough-admin": command_line,
}


def long_options(parser: argparse.ArgumentParser) -> set[str]:
    return {
        name for action in parser._actions for name in action.option_strings if name[:2] == "--"
    }


@pytest.mark.parametrize("name", PARSERS)
def test_completion_for_bash_is_a_script_that_knows_every_option(name, capsys):
    """bash takes the script, and each long option stands in it."""
    parser = PARSERS[name]()
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--print-completion", "bash"])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert [option for option in long_options(parser) if option not in script] == []


@pytest.mark.parametrize("name", PARSERS)
def test_completion_for_zsh_knows_every_option(name, capsys):
    """The script names the program and each long option."""
    parser = PARSERS[name]()
    with pytest.raises(SystemExit):
        parser.parse_args(["--print-completion", "zsh"])
    script = capsys.readouterr().out
    assert script.startswith(f"#compdef {name}")
    # An argument that nothing completes has to say so, or zsh inserts no option.
    assert re.findall(r'^ +"(?:\(\*\):)?:[^"]*:"$', script, re.MULTILINE) == []
    assert [option for option in long_options(parser) if option not in script] == []


def test_completion_offers_files(capsys):
    """Where a file is expected, both shells complete its name."""
    for script, word in (("bash", "_shtab_compgen_files"), ("zsh", "_files")):
        with pytest.raises(SystemExit):
            options.parser().parse_args(["--print-completion", script])
        found = capsys.readouterr().out
        assert [line for line in found.splitlines() if "pos_0" in line or "standard input" in line]
        assert found.count(word) >= 2, script  # the files to load, and --resume


def test_manual_pages(tmp_path):
    """One for each console script; ``whatis`` finds its line, and groff warns of nothing."""
    pytest.importorskip("argparse_manpage", reason="argparse-manpage (docs) is not installed")
    script = [sys.executable, str(ROOT / "docs/manpages.py"), str(tmp_path)]
    subprocess.run(script, check=True, timeout=120)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.1" for n in PARSERS)
    for path in tmp_path.iterdir():
        name, _, summary = path.read_text().partition(".SH NAME\n")[2].partition(" \\- ")
        assert name.replace("\\-", "-") == path.stem and summary[:1].isupper()
        if shutil.which("groff") is not None:
            checked = subprocess.run(
                ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)], capture_output=True, text=True
            )
            assert (checked.returncode, checked.stderr) == (0, "")
