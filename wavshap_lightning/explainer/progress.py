"""A progress bar for what takes longer than one likes to wait in the dark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SHOWN_AFTER_S = 2.0

Report = Callable[[int, int], None]
"""Takes the draws done and those planned so far."""

_HIDDEN: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Within the block no clip shows bars of its own: there is one for all of them."""
    token = _HIDDEN.set(True)
    try:
        yield
    finally:
        _HIDDEN.reset(token)


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Report]]:
    """Bars on standard error, one for each path, once two seconds are over; none without a terminal.

    Yields:
        A function that names a path and gives back what to tell of its progress.
    """
    columns = (TextColumn("{task.description:<16}"), BarColumn(20), TimeRemainingColumn(True))  # noqa: FBT003
    note = TextColumn("{task.completed:.0f}/{task.total:.0f} draws")
    console = Console(stderr=True)
    hidden = _HIDDEN.get() or not console.is_terminal
    bars = Progress(*columns, note, console=console, transient=True, disable=hidden)
    began_s = time.monotonic()

    def report(task: TaskID, done: int, planned: int) -> None:
        bars.update(task, completed=done, total=planned)
        if not bars.live.is_started and time.monotonic() - began_s >= SHOWN_AFTER_S:
            bars.start()

    try:
        yield lambda title: partial(report, bars.add_task(title, total=1))
    finally:
        if bars.live.is_started:
            bars.stop()
