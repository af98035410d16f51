"""What went wrong and was gone past: collected, and told once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_warn

MOST_TOLD = 5


class Notes:
    """What went wrong in one epoch of explanations.

    Watching must not stop what is watched, so whatever is raised is written down here instead of being passed
    on; nothing is left untold.
    """

    def __init__(self) -> None:
        self._notes: list[str] = []

    def add(self, note: str) -> None:
        """Write something down, unless it has been already."""
        if note not in self._notes:
            self._notes.append(note)

    @contextmanager
    def instead_of_raising(self, what: str) -> Iterator[None]:
        """Write down what the block raises, under the name of what it was about.

        Args:
            what: A clip's name, or what was being done.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
            self.add(f"{what}: {type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}")

    def tell(self, when: str) -> None:
        """Warn once of everything; say nothing if nothing went wrong.

        Args:
            when: Of which epoch this is, for the beginning of the message.
        """
        if not self._notes:
            return
        told, left = self._notes[:MOST_TOLD], len(self._notes) - MOST_TOLD
        more = f"; and {left} more" if left > 0 else ""
        rank_zero_warn(f"explanations, {when}: {'; '.join(told)}{more}. Training goes on", stacklevel=3)
