"""Make `figures/audit.svg` again: what `train.py audit` prints about RAVDESS.

    python docs/make_audit_picture.py --root DIR

Needs no model and no network.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = Path(__file__).parent / "figures" / "audit.svg"
COMMAND = ("train.py", "audit", "--config", "configs/ravdess.yaml", "--data.root", "ravdess")
WIDTH = 96


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of RAVDESS")
    printed = run_audit(parser.parse_args().root.resolve())
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(Text(f"$ python {' '.join(COMMAND)}\n{printed}".rstrip()))
    console.save_svg(str(PICTURE), title="train.py audit", unique_id="audit")


def run_audit(root: Path) -> str:
    """What the command prints in a folder that holds the corpus and the configurations."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ravdess").symlink_to(root)
        (Path(folder) / "configs").symlink_to(ROOT / "configs")
        command = [sys.executable, str(ROOT / COMMAND[0]), *COMMAND[1:]]
        environment = {**os.environ, "COLUMNS": str(WIDTH), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


if __name__ == "__main__":
    main()
