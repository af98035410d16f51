"""`explain.py` and `wavshap-explain`: what a classifier hears in clips."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from wavshap_lightning.cli.explain_options import read_options
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
        # What computes takes seconds to load, and nobody waits for them to read the help.
        what = "explain_run" if options.corpus is None else "explain_corpus"
        sys.exit(import_module(f"wavshap_lightning.cli.{what}").run(options))
    except WavshapError as error:
        complain(error)
        sys.exit(EXIT_NOTHING_DONE)
    except BrokenPipeError:  # whoever reads the lines, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
