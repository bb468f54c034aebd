"""How often a worker does its periodic work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Periods, in seconds.

    :ivar heartbeat: between renewals of the worker's own row
    :ivar retry: before a segment whose check failed, or had to wait, is checked again
    :ivar full: between comparisons of everything
    :ivar lock_idle: without a write, after which a wholly promoted segment is retired;
        0: never
    :ivar promote_after: after which a write is promoted, if that has not been done; 0: never
    """

    heartbeat: float
    retry: float
    full: float
    lock_idle: float
    promote_after: float = 0.0

    def is_idle(self, unwritten: float, draining: bool) -> bool:
        """Whether a wholly promoted segment is given up by its writer.

        :param unwritten: seconds since the last write
        :param draining: the worker is being emptied, for which no time need pass
        """
        return draining or 0 < self.lock_idle <= unwritten
