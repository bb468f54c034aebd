"""``trough-admin certificate``: makes a cluster's CA and certificates; needs no store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from trough.admin.console import DONE

#: Days for which a CA and a certificate are valid.
CA_DAYS, NODE_DAYS = 3650, 825


def add_certificate_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``certificate`` with its commands to a command line.

    :param command: adds one
    """
    parser = command("certificate", "make a CA for a cluster, and certificates of it for TLS")
    kinds = parser.add_subparsers(required=True, metavar="WHAT")

    def kind(name: str, days: int, help_text: str) -> argparse.ArgumentParser:
        sub = kinds.add_parser(name, help=help_text, description=help_text.capitalize() + ".")
        sub.add_argument(
            "--directory", type=Path, default=Path("trough-ca"), help="of the CA (%(default)s)"
        )
        sub.add_argument(
            "--days", type=_days, default=days, help="that it is good for (%(default)s)"
        )
        return sub

    making = kind("ca", CA_DAYS, "make a CA: ca.pem, which all may have, and ca.key, to be kept")
    making.set_defaults(command=make_ca, local=make_ca)
    issuing = kind("node", NODE_DAYS, "make certificate and key of a machine: NAME.pem, NAME.key")
    issuing.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="host names and addresses by which others reach it, EXTERNAL_IP among them",
    )
    issuing.add_argument(
        "--renew", action="store_true", help="replace the certificate and key that are there"
    )
    issuing.set_defaults(command=make_node, local=make_node)


def make_ca(output: TextIO, options: argparse.Namespace) -> int:
    """Make a CA."""
    from trough.tls import authority

    authority.make_ca(options.directory, datetime.now(UTC), options.days)
    print(
        f"{options.directory}/{authority.CA_CERTIFICATE}: copy it to every machine and client\n"
        f"{options.directory}/{authority.CA_KEY}: keep it off all of them; who has it can pass "
        "for any server",
        file=output,
    )
    return DONE


def make_node(output: TextIO, options: argparse.Namespace) -> int:
    """Make the certificate and the key of one machine."""
    from trough.tls import authority

    certificate, key = authority.make_certificate(
        options.directory, options.names, datetime.now(UTC), options.days, options.renew
    )
    print(
        f"{certificate} and {key}: copy both to {options.names[0]}. Its settings:\n\n"
        f"TLS_CERT: /etc/trough/tls/{certificate.name}\n"
        f"TLS_KEY: /etc/trough/tls/{key.name}\n"
        f"TLS_CA: /etc/trough/tls/{authority.CA_CERTIFICATE}\n"
        f"TLS_PEER_CA: /etc/trough/tls/{authority.CA_CERTIFICATE}",
        file=output,
    )
    return DONE


def _days(text: str) -> int:
    days = int(text)
    if not 0 < days <= 36500:
        raise ValueError
    return days
