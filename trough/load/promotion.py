"""Promotes a segment, and shows the progress meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from trough.cli.load_progress import LoadProgress
from trough.cli.progress import duration
from trough.cli.transfer_text import TransferText
from trough.client import TroughClient
from trough.client.transfers import Unknown

#: Seconds between two requests to the worker.
ASKED_EVERY = 1.0


def promote(client: TroughClient, segment: str, progress: LoadProgress) -> str:
    """Promote a segment. Return the place of its canonical copy.

    :raises trough.client.TroughException: it is not promoted
    """
    ended, text = threading.Event(), PromotionText(segment)
    progress.show_step(text.at(0, 0))
    thread = threading.Thread(target=_show, args=(client, text, progress, ended), daemon=True)
    thread.start()
    try:
        path: str = client.promote(segment)["remote_path"]
    finally:
        ended.set()
        thread.join()
    return path


def _show(
    client: TroughClient, text: PromotionText, progress: LoadProgress, ended: threading.Event
) -> None:
    is_known = True
    while not ended.wait(ASKED_EVERY):
        done = total = 0
        try:
            if is_known:
                done, total = client.published(text.segment)
        except Unknown:
            is_known = False
        progress.show_step(text.at(done, total))


class PromotionText:
    """The line about one promotion.

    A worker first takes a snapshot and checks it, and then publishes it.

    :param clock: monotonic seconds
    """

    def __init__(self, segment: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.segment = segment
        self._clock = clock
        self._begun = clock()
        self._transfer = TransferText(clock)

    def at(self, done: int, total: int) -> str:
        """The line at this point of the promotion.

        :param done: bytes that are published
        :param total: all bytes; 0 if there is no transfer, or the total is unknown
        """
        seconds = self._clock() - self._begun
        parts = [
            f"segment {self.segment} is being promoted",
            self._transfer.share(done, total),
            duration(seconds) if seconds >= ASKED_EVERY / 2 else "",
            self._transfer.left(done, total),
        ]
        return ", ".join(filter(None, parts))
