"""FORMAT CHART: two columns as a picture of characters, drawn by plotext.

The first column holds names, numbers or dates, the second the values. Each name gives a bar.
Numbers and dates give a line. A chart of more rows than a screen has columns shows nothing, so
rows beyond :data:`MOST_ROWS` are refused.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from typing import Any

from trough import errors
from trough.formats.text import Renderer, RenderOptions
from trough.util.safe_text import cut, safe, show_value

MOST_ROWS = 1000
_MOST_BARS = 200
_HEIGHT = 16
_WIDEST = 120
_LABEL = 30
_TICKS = 4

_DATE = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?)?)?|\d{14}")


class Chart(Renderer):
    """Bars, or a line over numbers or dates.

    :raises trough.errors.BadRequest: not two columns, the second of numbers; too many rows
    """

    def __init__(self, columns: Sequence[str], options: RenderOptions) -> None:
        super().__init__(columns, options)
        if len(columns) != 2:
            raise errors.BadRequest(
                f"CHART needs two columns, and the result has {len(columns)}",
                "for example: SELECT host, count(*) FROM crawled_url GROUP BY host",
            )
        self._rows: list[tuple[Any, float]] = []

    def rows(self, rows: Sequence[Sequence[Any]]) -> str:
        for name, number in rows:
            if number is None:
                continue
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise errors.BadRequest(
                    f"CHART needs numbers in the second column, and there is {safe(str(number))}"
                )
            self._rows.append((name, float(number)))
        if len(self._rows) > MOST_ROWS:
            raise errors.BadRequest(f"CHART shows at most {MOST_ROWS:,} rows", "add a LIMIT")
        return ""

    def end(self) -> str:
        if not self._rows:
            return "(no rows)\n"
        names = [name for name, _ in self._rows]
        if len(names) > 1 and all(isinstance(name, int | float) for name in names):
            return self._line([float(name) for name in names], names)
        if len(names) > 1 and all(isinstance(n, str) and _DATE.fullmatch(n) for n in names):
            self._rows.sort(key=lambda row: row[0])
            return self._line(list(range(len(names))), [name for name, _ in self._rows])
        return self._bars()

    def _bars(self) -> str:
        if len(self._rows) > _MOST_BARS:
            raise errors.BadRequest(f"CHART shows at most {_MOST_BARS} bars", "add a LIMIT")
        import plotext

        labels = [cut(show_value(name, self.options.null), _LABEL) for name, _ in self._rows]
        numbers = [number for _, number in self._rows]
        shown = [_shown(number) for number in numbers]
        plotext.clear_figure()
        # plotext writes each number with two decimals, and makes no room for them.
        plotext.simple_bar(labels, numbers, width=max(1, _columns() - max(map(len, shown)) - 3))
        bars = [line.rpartition(" ")[0] for line in self._drawn().splitlines()]
        return "".join(f"{bar} {text}\n" for bar, text in zip(bars, shown, strict=True))

    def _line(self, places: Sequence[float], names: Sequence[Any]) -> str:
        import plotext

        plotext.clear_figure()
        plotext.plot_size(_columns(), _HEIGHT)
        plotext.plot(places, [number for _, number in self._rows])
        step = max(1, (len(places) - 1) // (_TICKS - 1))
        ticks = range(0, len(places), step)
        plotext.xticks([places[i] for i in ticks], [safe(str(names[i])) for i in ticks])
        return self._drawn()

    def _drawn(self) -> str:
        import plotext

        plotext.theme("clear")
        text = str(plotext.uncolorize(plotext.build()))
        return "".join(f"{line.rstrip()}\n" for line in text.rstrip("\n").split("\n"))


def _shown(number: float) -> str:
    return f"{number:.0f}" if number.is_integer() else f"{number:.6g}"


def _columns() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)
