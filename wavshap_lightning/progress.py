"""Progress bars of long loops, on standard error; Lightning's own bar shows training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID

SHOWN_AFTER_S = 2.0
RANKS = ("LOCAL_RANK", "SLURM_LOCALID")
"""Variables with the number of a process on its node; only the first shows bars."""

_HIDDEN: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Show no bars within the block, where there is one bar for all clips."""
    token = _HIDDEN.set(True)
    try:
        yield
    finally:
        _HIDDEN.reset(token)


@contextmanager
def progress_bars(
    shown_after_s: float = SHOWN_AFTER_S,
) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Bars on standard error, one for each stage of the work; none without a terminal.

    Args:
        shown_after_s: Seconds after which they appear, so that short runs show none.

    Yields:
        A function that takes the title of a bar and returns the callback to report its progress to: steps
        done, and all steps.
    """
    console = Console(stderr=True)
    is_first = all(os.environ.get(name, "0") == "0" for name in RANKS)
    hidden = _HIDDEN.get() or not console.is_terminal or not is_first
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    bars = Progress(*columns, console=console, transient=True, disable=hidden)
    began_s = time.monotonic()

    def report(task: TaskID, done: int, planned: int) -> None:
        bars.update(task, completed=done, total=planned)
        if not bars.live.is_started and time.monotonic() - began_s >= shown_after_s:
            bars.start()

    try:
        yield lambda title: partial(report, bars.add_task(title, total=1))
    finally:
        if bars.live.is_started:
            bars.stop()
