"""How large is the package, and how is it laid out?

    python benchmarks/size.py [DIR]

counts the checkout in DIR (default: this one) with the standard library alone: modules, files in the largest
folder, import cycles (also under `TYPE_CHECKING` and inside functions), code lines of each ring (without
docstrings, comments and blanks), lengths of functions, record types, and docstrings that open vaguely.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import house  # noqa: E402 - scripts/ is on no path by itself


def count(root: Path) -> dict[str, int]:
    """All figures of a checkout, by name."""
    modules = house.read_modules(root)
    lengths = [*house.function_lengths(modules).values()]
    rings = house.code_per_ring(modules)
    return {
        "modules": sum(not module.is_package for module in modules.values()),
        "files in the largest folder": max(house.files_per_folder(modules).values()),
        "import cycles": len(house.import_cycles(house.imports_of(modules))),
        f"modules under {house.SMALL_LINES} lines with one importer": len(house.small_modules(modules)),
        "code lines": sum(rings.values()),
        **{f"code lines, {ring}": lines for ring, lines in sorted(rings.items())},
        "functions": len(lengths),
        "code lines of a function, median": house.percentile(lengths, 0.5),
        "code lines of a function, 90th percentile": house.percentile(lengths, 0.9),
        "code lines of a function, longest": max(lengths),
        "record types": len(house.record_types(modules)),
        "vague docstrings": len(house.vague_docstrings(modules)),
    }


def main() -> None:
    """Print the table and keep it in `results/size.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", metavar="DIR", type=Path, nargs="?", default=ROOT, help="a checkout")
    parser.add_argument("--details", action="store_true", help="also name what is over the budget")
    parser.add_argument("--quick", action="store_true", help="changes nothing: a count takes seconds")
    arguments = parser.parse_args()
    figures = count(arguments.root)
    for name, value in figures.items():
        print(f"{name:<52} {value:>7}")
    if arguments.details:
        _print_details(arguments.root)
    if arguments.root.resolve() == ROOT:
        results = ROOT / "benchmarks/results"
        results.mkdir(exist_ok=True)
        (results / "size.json").write_text(json.dumps(figures, indent=2) + "\n")


def _print_details(root: Path) -> None:
    modules = house.read_modules(root)
    lengths = house.function_lengths(modules)
    longest = sorted(lengths, key=lengths.__getitem__, reverse=True)[:10]
    details = {
        "import cycles": [", ".join(group) for group in house.import_cycles(house.imports_of(modules))],
        "small modules with one importer": [f"{a} <- {b}" for a, b in house.small_modules(modules).items()],
        "longest functions": [f"{lengths[name]} {name}" for name in longest],
        "vague docstrings": house.vague_docstrings(modules),
    }
    for title, lines in details.items():
        print(f"\n{title}:", *(lines or ["none"]), sep="\n  ")


if __name__ == "__main__":
    main()
