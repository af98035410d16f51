"""`explain.py` and `wavshap-explain`: what a classifier hears in clips."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from wavshap_lightning.cli.options import read_options
from wavshap_lightning.cli.terminal import complain
from wavshap_lightning.errors import WavshapError

EXIT_DONE, EXIT_NOTHING_DONE, EXIT_INTERRUPTED = 0, 2, 130


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0 if every clip was explained, 1 if some could not be (each named with its reason), 2 if
    nothing could be done, 130 if interrupted.
    """
    try:
        options = read_options(args)
        sys.exit(_load("run" if options.corpus is None else "corpus").run(options))
    except WavshapError as error:
        complain(error)
        sys.exit(EXIT_NOTHING_DONE)
    except BrokenPipeError:  # whoever reads the lines, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _load(name: str) -> ModuleType:
    """What computes: it takes seconds, which nobody waits for to read the help.

    A tenth of them would go into looking for garbage among a million objects, all of which stay.
    """
    name = f"wavshap_lightning.cli.{name}"
    if name in sys.modules or not gc.isenabled():
        return import_module(name)
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    main()
