"""Leaving out what nobody can act on; our own warnings stay, and are easier to read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# What Lightning tells everybody.
NOTES = (
    "GPU available",
    "TPU available",
    "💡 Tip",
    "Loading `train_dataloader`",
    "Seed set to",
    "`Trainer.fit` stopped:",
    "Restoring states from",
    "Loaded model weights from",
)
LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
WARNINGS = (
    ".*does not have many workers which may be a bottleneck.*",
    ".*module\\(s\\) in eval mode at the start of training.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*LeafSpec.* is deprecated.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, notes and warnings that help nobody are dropped, and warnings come without code."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    formatwarning = warnings.formatwarning
    with warnings.catch_warnings():
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
