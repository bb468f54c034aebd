"""``trough-admin rethinkdb-users``: makes the RethinkDB users of Trough and its clients."""

from __future__ import annotations

import argparse
import secrets

from trough.admin.console import DONE, Console
from trough.metadata import StoreUser

#: Default names of the two users.
SERVERS, CLIENTS = "trough", "trough-reader"


async def rethinkdb_users(console: Console, options: argparse.Namespace) -> int:
    """Make the users, or set their permissions again."""
    users = [
        StoreUser(options.servers, secrets.token_urlsafe(24), writes=True),
        StoreUser(options.clients, secrets.token_urlsafe(24), writes=False),
    ]
    made = await console.metadata.make_users(users, options.new_passwords)
    for user, keys in zip(users, ("servers and trough-admin", "clients"), strict=True):
        if user.name not in made:
            console.say(f"{user.name} is there already: its password stays, for {keys}")
            continue
        console.say(f"{user.name}, for {keys}:")
        console.say(f"  RETHINKDB_USER={user.name}")
        console.say(f"  RETHINKDB_PASSWORD={user.password}")
    console.say("A password is shown this once. Both users reach this one database alone.")
    return DONE
