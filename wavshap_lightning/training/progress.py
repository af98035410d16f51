"""Progress bars, all of one kind, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L  # noqa: N812
from lightning.pytorch.callbacks import ProgressBar
from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

TITLE_COLUMNS, BAR_COLUMNS = 16, 20
SAID_EVERY_S = 60.0
SHOWN_METRICS = {"train/loss": "loss", "val/uar": "val UAR"}


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar from the first word of progress until the block ends, on the first process only.

    Args:
        title: What is being done.
        total: How many steps there are.

    Yields:
        A function to call with the number of steps done so far.
    """
    bar = _build_bar(hidden=getattr(rank_zero_only, "rank", 0) != 0)
    task = bar.add_task(title, total=total, note="")

    def on_progress(done: int) -> None:
        bar.update(task, completed=done, note=f"{done}/{total}")
        bar.start()

    try:
        yield on_progress
    finally:
        if bar.live.is_started:
            bar.stop()


class RunProgress(ProgressBar):
    """One bar for a whole training, one for each evaluation; without a terminal, a line an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Progress | None = None
        self._began_s = self._said_s = 0.0
        self._num_clips = 0

    def disable(self) -> None:
        """Show nothing, for instance on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show bars again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, *_: object) -> None:
        """Open the bar of the training."""
        self._open("Training", _num_train_batches(trainer))

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Move on by a batch, counted over all epochs."""
        self._move(completed=trainer.fit_loop.total_batch_idx + 1, note=_epoch_note(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Show what the epoch brought."""
        self._move(note=_epoch_note(trainer))
        if self._bar is not None and not self._bar.console.is_terminal:
            self._bar.console.print(_epoch_note(trainer), highlight=False)

    def on_train_end(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._close()

    def on_validation_start(self, trainer: L.Trainer, *_: object) -> None:
        """Open a bar, outside training."""
        if trainer.state.fn == "validate":
            self._open("Validating", float(sum(trainer.num_val_batches)))

    def on_validation_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Move on by a batch, outside training."""
        if trainer.state.fn == "validate":
            self._move(advance=1)

    def on_validation_end(self, trainer: L.Trainer, *_: object) -> None:
        """Leave the bar as it stands, outside training."""
        if trainer.state.fn == "validate":
            self._close()

    def on_test_start(self, trainer: L.Trainer, *_: object) -> None:
        """Open a bar."""
        self._open("Testing", float(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *_: object) -> None:
        """Move on by a batch."""
        self._move(advance=1)

    def on_test_end(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._close()

    def on_predict_start(self, trainer: L.Trainer, *_: object) -> None:
        """Open a bar over the clips of all processes."""
        self._open("Explaining", _num_predicted(trainer))
        self._began_s = self._said_s = time.monotonic()
        self._num_clips = 0

    def on_predict_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Move on by a clip on every process; without a terminal, a line a minute."""
        self._num_clips += trainer.world_size
        now_s = time.monotonic()
        rate = self._num_clips / (now_s - self._began_s)
        note = f"{self._num_clips}/{_num_predicted(trainer):.0f} clips, {rate:.3g} a second"
        self._move(completed=self._num_clips, note=note)
        if (
            self._bar is not None
            and not self._bar.console.is_terminal
            and now_s - self._said_s > SAID_EVERY_S
        ):
            self._said_s = now_s
            self._bar.console.print(note, highlight=False)

    def on_predict_end(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._close()

    def on_exception(self, *_: object) -> None:
        """Leave the terminal in order."""
        self._close()

    def _open(self, title: str, total: float | None) -> None:
        self._close()
        if self._enabled:
            self._bar = _build_bar()
            self._bar.add_task(title, total=total, note="")
            self._bar.start()

    def _move(self, **changes: Any) -> None:  # noqa: ANN401 - whatever Progress.update takes
        if self._bar is not None:
            self._bar.update(TaskID(0), **changes)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _build_bar(*, hidden: bool = False) -> Progress:
    title = f"{{task.description:<{TITLE_COLUMNS}}}"
    columns = (TextColumn(title), BarColumn(BAR_COLUMNS), TimeRemainingColumn(elapsed_when_finished=True))
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), disable=hidden)


def _num_predicted(trainer: L.Trainer) -> float:
    """Over all processes; the others may have a clip less than the first."""
    return float(sum(trainer.num_predict_batches)) * trainer.world_size


def _num_train_batches(trainer: L.Trainer) -> float | None:
    """Over all epochs; None where nobody knows."""
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(float(trainer.max_epochs * trainer.num_training_batches))
    if trainer.max_steps >= 0:
        limits.append(float(trainer.max_steps * trainer.accumulate_grad_batches))
    return min(limits, default=None)


def _epoch_note(trainer: L.Trainer) -> str:
    """Which epoch it is, counted from 1, and what is known of it."""
    last = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    metrics = trainer.progress_bar_metrics
    known = [f"{short} {metrics[name]:.3f}" for name, short in SHOWN_METRICS.items() if name in metrics]
    return "  ".join([f"epoch {trainer.current_epoch + 1}{last}", *known])
