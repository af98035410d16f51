"""Progress bar of the package's own long loops; Lightning's bar shows training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error from the first progress until the block ends, on the first process only.

    Args:
        title: Name of the work.

    Yields:
        A function to call with the number of steps done so far and that of all steps.
    """
    bar = Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(20),
        TimeRemainingColumn(elapsed_when_finished=True),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=getattr(rank_zero_only, "rank", 0) != 0,
    )
    task = bar.add_task(title)

    def on_progress(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()

    try:
        yield on_progress
    finally:
        if bar.live.is_started:
            bar.stop()
