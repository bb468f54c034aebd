"""Watches whether the clocks of the metadata store's servers agree.

They decide which workers are alive. The leader allows dead workers as many seconds more as the
clocks differ by, and warns, so that a wrong clock unpublishes no living worker.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.metadata import Metadata
from trough.util.trouble_log import Section

_log = Logger()

#: Seconds between two comparisons, and between two warnings.
INTERVAL = 60.0

#: Seconds that clocks may differ by; NTP keeps them within some milliseconds.
TOLERATED = 1.0


class ServerClocks:
    """See the module's text.

    :ivar spread: seconds between the first clock and the last one, at the last comparison
    """

    def __init__(self, metadata: Metadata, clock: IReactorTime) -> None:
        self.spread = 0.0
        self._metadata = metadata
        self._clock = clock
        self._compared = float("-inf")

    async def slack(self) -> float:
        """Seconds to be allowed for clocks that differ; 0 while they agree."""
        now = self._clock.seconds()
        if now - self._compared >= INTERVAL:
            self._compared = now
            await self._compare()
        return self.spread if self.spread >= TOLERATED else 0.0

    async def _compare(self) -> None:
        try:
            offsets = await self._metadata.clock_offsets()
        except errors.Unavailable:
            return  # what was known holds
        self.spread = spread_of(offsets)
        if self.spread >= TOLERATED:
            _log.warn("{warning}", warning=Section.CLOCKS.of_line(warning_of(offsets)))


def spread_of(offsets: dict[str, float]) -> float:
    """Seconds between the first clock and the last one."""
    return max(offsets.values()) - min(offsets.values()) if offsets else 0.0


def warning_of(offsets: dict[str, float]) -> str:
    """Which clock is wrong, and what to do."""
    wrong = ", ".join(
        f"{server} is {abs(offset):.1f} s {'ahead' if offset > 0 else 'behind'}"
        for server, offset in sorted(offsets.items())
        if abs(offset) >= TOLERATED / 2
    )
    return (
        f"the clocks of the RethinkDB servers differ by {spread_of(offsets):.1f} s: {wrong}; "
        "living workers may be taken for dead (is NTP running on each of them?)"
    )
