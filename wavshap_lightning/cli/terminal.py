"""Names and complaints as a terminal can show them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

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
