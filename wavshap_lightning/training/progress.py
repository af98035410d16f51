"""A progress bar for work that Lightning's own bars do not cover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the block runs, on the first process only.

    Args:
        title: What is being done.
        total: How many steps there are.

    Yields:
        A function to call with the number of steps done so far.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = getattr(rank_zero_only, "rank", 0) != 0 or total == 0
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
