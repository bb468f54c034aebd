"""What can be done to work that goes on for somebody."""

from __future__ import annotations

from typing import Protocol


class Job(Protocol):
    """Work under way whose results go to a receiver."""

    def cancel(self) -> None:
        """End it soon. Idempotent, and without effect once it is over."""

    def pause(self) -> None:
        """Send no more, but for what is on its way: a bounded number of bytes. Idempotent."""

    def resume(self) -> None:
        """Go on sending. Idempotent."""


class SilentJob:
    """A :class:`Job` that sends nothing which could be held back."""

    def pause(self) -> None:
        """See :class:`Job`; there is nothing to do."""

    def resume(self) -> None:
        """See :class:`Job`; there is nothing to do."""
