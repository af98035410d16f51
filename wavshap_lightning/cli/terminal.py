"""Messages of both command lines: on one line, errors as an exit status, fewer notes of libraries."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console

from wavshap_lightning.errors import WavshapError

EXIT_DONE, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

LEVELS = {
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    "transformers.modeling_utils": logging.ERROR,  # missing weights are an error of ours
}
# Of torch (by trainer.detect_anomaly, and on a CPU), and of a path (a zero byte, `~` before no user's name).
REFUSALS = "returned nan values", "can't allocate memory", "embedded null", "determine home directory"
IGNORED_WARNINGS = (
    ".*does not have many workers which may be a bottleneck",
    ".*module\\(s\\) in eval mode at the start of training",
    ".*Checkpoint directory .* exists and is not empty",
    ".*LeafSpec.* is deprecated",
    ".*Total length of .* across ranks is zero",
    ".*within local rank has zero length",
)


WARNED: list[str] = []
"""Messages of the warnings that the command has shown, for the files of its run."""


@contextmanager
def exit_status() -> Iterator[None]:
    """Turn a user's mistake into a message and exit status 2, and an interruption into status 130.

    Mistakes are errors of ours, what Lightning itself raises, and a lack of memory, disk or network. Any
    other exception may be a bug, and keeps its traceback.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the lines, such as head, has closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if not (isinstance(error, WavshapError) or _is_refusal(error)):
            raise
        complain(error)
        sys.exit(EXIT_USAGE)


def _is_refusal(error: Exception) -> bool:
    """True if memory, disk, network or a package is lacking, or Lightning or the parser raised on purpose."""
    import torch  # noqa: PLC0415 - slow, and not needed for help

    lacking = OSError, MemoryError, ModuleNotFoundError, torch.OutOfMemoryError, torch.distributed.DistError
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_library = not {"lightning", "jsonargparse"}.isdisjoint(Path(last.filename).parts)
    return (
        isinstance(error, lacking)
        or (is_library and (last.line or "").startswith("raise "))
        or any(sign in str(error) for sign in REFUSALS)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, hide notes and warnings of Lightning and transformers that a user cannot act on.

    Warnings that are shown are kept in `WARNED`.
    """
    from huggingface_hub.utils.tqdm import enable_progress_bars  # noqa: PLC0415 - slow, and not needed for help
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()  # type: ignore[no-untyped-call]
    enable_progress_bars()  # those of downloads, which transformers hides with its own
    with warnings.catch_warnings(), ExitStack() as restored:
        restored.callback(setattr, warnings, "formatwarning", warnings.formatwarning)
        warnings.formatwarning = _keep_and_format  # type: ignore[assignment] # called by position
        WARNED.clear()
        if isinstance(sys.stdout, TextIOWrapper):  # the name of a file may be no text
            restored.callback(sys.stdout.reconfigure, errors=sys.stdout.errors)
            sys.stdout.reconfigure(errors="backslashreplace")
        for message in IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for logger, level in ((logging.getLogger(name), level) for name, level in LEVELS.items()):
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(level)
        yield


def _keep_and_format(message: Warning | str, category: type[Warning], *_: object) -> str:
    """The line that shows a warning; Python asks for it when it shows one."""
    WARNED.append(str(message))
    return f"{category.__name__}: {message}\n"


def on_one_line(name: Path | str) -> str:
    r"""A name as it is written, with line breaks and other unprintable signs escaped.

    >>> on_one_line("a\tname.wav")
    'a\\tname.wav'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(name))


def complain(error: Exception | str) -> None:
    """Print a message on standard error; that of another library on one line."""
    words = error if isinstance(error, str) else f"{type(error).__name__}: {str(error).strip()}"
    if "in DataLoader worker process" in words:  # torch puts the traceback of the worker before its message
        words = words.splitlines()[-1].partition("errors.")[2]
    elif not isinstance(error, WavshapError | str):
        words = " ".join(map(str.strip, words.splitlines()))
    message = words.encode(errors="backslashreplace").decode()  # a path may be no text
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def tell(line: str) -> None:
    """Print a line at once, also where the output is a file or a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say(title: str, value: str, *, stderr: bool = False) -> None:
    """Print a titled line such as `Run folder       runs/demo/version_0`."""
    Console(stderr=stderr).print(f"{title:<16} {value}", markup=False, highlight=False, soft_wrap=True)
