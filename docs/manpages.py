"""Write the manual pages of all console scripts into a directory: ``make man``.

The text is that of ``--help``, from the same parsers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

from trough import __version__
from trough.admin import command_line
from trough.cli import up
from trough.load import options
from trough.shell import main as shell

SEE_ALSO = """\
.SH SEE ALSO
trough(1), trough-shell(1), trough-load(1), trough-admin(1), twistd(1). Completion for bash:
.nf
    NAME --print-completion bash > /etc/bash_completion.d/NAME
.fi
"""


def main(directory: Path) -> None:
    """Write ``NAME.1`` for each console script."""
    directory.mkdir(parents=True, exist_ok=True)
    for parser in (up.parser(), shell.parser(), options.parser(), command_line()):
        # `whatis` and `apropos` need the short description behind the name.
        summary = str(parser.description).partition(". ")[0].partition(": ")[0].rstrip(".")
        data = {
            "project_name": "Trough",
            "version": __version__,
            "manual_title": "Trough",
            "description": " ".join(summary.split()),
        }
        page = Manpage(parser, data)
        text = f"{page}\n{SEE_ALSO.replace('NAME', parser.prog)}"
        (directory / f"{parser.prog}.1").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
