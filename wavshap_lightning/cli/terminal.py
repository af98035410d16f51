"""Leaving out what nobody can act on; our own warnings stay, and are easier to read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from rich.console import Console
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from wavshap_lightning.errors import WavshapError


def on_one_line(text: str) -> str:
    r"""A name as it is written, but for line breaks and the like in it.

    >>> on_one_line("a\tname.wav")
    'a\\tname.wav'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def complain(error: WavshapError | str) -> None:
    """Say on standard error what went wrong."""
    words = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    message = words.encode(errors="backslashreplace").decode()  # a path may be no text
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def shown(path: Path) -> str:
    """A path on one line."""
    return on_one_line(str(path))


# What Lightning and transformers tell everybody; weights that are missing are an error of ours.
NOTES = (
    "GPU available",
    "TPU available",
    "💡 Tip",
    "Loading `train_dataloader`",
    "Seed set to",
    "`Trainer.fit` stopped:",
    "Restoring states from",
    "Loaded model weights from",
    "LOAD REPORT",
    "Initializing distributed",
    "distributed_backend=",
    "Detected KeyboardInterrupt",
)
LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "transformers.modeling_utils",
)
WARNINGS = (
    ".*does not have many workers which may be a bottleneck.*",
    ".*module\\(s\\) in eval mode at the start of training.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*LeafSpec.* is deprecated.*",
    ".*Total length of `DataLoader` across ranks is zero.*",
    ".*within local rank has zero length.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, what helps nobody is dropped: notes, warnings, and the code that comes with warnings.

    So is the bar of transformers while it loads weights; that of a download stays.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    formatwarning = warnings.formatwarning
    with warnings.catch_warnings(), _without_loading_bars():
        for message in WARNINGS:
            warnings.filterwarnings("ignore", message)
        for logger in loggers:
            logger.addFilter(_is_worth_telling)
        warnings.formatwarning = _without_code
        try:
            yield
        finally:
            warnings.formatwarning = formatwarning
            for logger in loggers:
                logger.removeFilter(_is_worth_telling)


@contextmanager
def _without_loading_bars() -> Iterator[None]:
    """The switch of transformers turns the bars of downloads off too, so they are turned on again."""
    were_shown, downloads_were_hidden = is_progress_bar_enabled(), are_progress_bars_disabled()
    _show_bars(loading=False, downloads=not downloads_were_hidden)
    try:
        yield
    finally:
        _show_bars(loading=were_shown, downloads=not downloads_were_hidden)


def _show_bars(*, loading: bool, downloads: bool) -> None:
    (enable_progress_bar if loading else disable_progress_bar)()  # type: ignore[no-untyped-call]
    if downloads == are_progress_bars_disabled():
        (enable_progress_bars if downloads else disable_progress_bars)()


def _is_worth_telling(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(note in message for note in NOTES)


def _without_code(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001 - the signature of warnings.formatwarning
    lineno: int,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> str:
    return f"{category.__name__}: {message}\n"
