"""Errors of one epoch of explanations, kept instead of raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_warn

MAX_WARNED = 5


class ErrorLog:
    """Errors of one epoch of explanations.

    Monitoring must not stop the training, so exceptions are collected here and reported in one warning.
    """

    def __init__(self) -> None:
        self._messages: dict[str, None] = {}  # each once, in order

    def add(self, message: str) -> None:
        """Add a message, unless the log already holds it."""
        self._messages[message] = None

    @contextmanager
    def collect(self, what: str) -> Iterator[None]:
        """Keep what the block raises, instead of raising it.

        Args:
            what: A clip's name, or what is being done.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
            self.add(f"{what}: {type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}")

    def warn(self, moment: str) -> None:
        """Warn once of everything that went wrong, if anything did.

        Args:
            moment: The epoch or the split, for the beginning of the message.
        """
        if self._messages:
            told, left = [*self._messages][:MAX_WARNED], len(self._messages) - MAX_WARNED
            more = f"; and {left} more" if left > 0 else ""
            rank_zero_warn(f"explanations, {moment}: {'; '.join(told)}{more}. Training goes on", stacklevel=3)
