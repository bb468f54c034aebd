"""twistd, made to kill itself like a power cut would, at a step of an order.

    python killed_at.py MODULE:CLASS.METHOD before|after|stopped twistd's arguments

With ``stopped`` it does not end before the step but stands still, until it is told to go on.

The step counts from the moment that a provisioning or a promotion begins. Run by
test_promotion_sweep.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.scripts.twistd import run

from trough.worker.controller import LocalSyncController

armed = False


def die() -> None:
    """End as abruptly as can be."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm() -> None:
    """Have the step be deadly once an order is carried out."""
    for name in ("provision", "promote"):
        arm_with(name, getattr(LocalSyncController, name))


def arm_with(name: str, carry_out: Any) -> None:
    """Have one method arm."""

    async def armed_from_now_on(self: Any, *arguments: Any) -> Any:
        global armed
        armed = True
        return await carry_out(self, *arguments)

    setattr(LocalSyncController, name, armed_from_now_on)


def make_deadly(step: str, when: str) -> None:
    """Wrap the method that `step` names."""
    module, _, path = step.partition(":")
    class_name, _, method_name = path.partition(".")
    owner = getattr(importlib.import_module(module), class_name)
    method = getattr(owner, method_name)

    async def then_die(result: Any) -> Any:
        await result
        die()

    def deadly(self: Any, *arguments: Any, **named: Any) -> Any:
        if not armed:
            return method(self, *arguments, **named)
        if when == "before":
            die()
        if when == "stopped":
            # To this very thread: told to the process, another one may take it, and this
            # one goes on for as long as it takes to stop it.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            return method(self, *arguments, **named)
        result = method(self, *arguments, **named)
        if isinstance(result, Deferred):
            return result.addBoth(lambda _: die())
        if hasattr(result, "__await__"):
            return then_die(result)
        return die()

    setattr(owner, method_name, deadly)


if __name__ == "__main__":
    _, step, when, *rest = sys.argv
    arm()
    make_deadly(step, when)
    sys.argv = ["twistd", *rest]
    run()
