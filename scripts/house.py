"""Size and structure of the package, counted from its source with the standard library alone.

`tests/test_house.py` holds the package to a budget in these numbers; `benchmarks/size.py` prints them for any
checkout. Nothing of the package is imported, so that an old checkout, or a broken one, can be counted too.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "wavshap_lightning"
SMALL_LINES = 80
"""Modules below this many lines, blanks included, should have more than one importer."""

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_OPENERS = re.compile(r"(What|Which|Where|Whether|Whose)\b")
_RECORDS = {"dataclass", "NamedTuple", "TypedDict"}


@dataclass(frozen=True)
class Module:
    """One source file of the package.

    Args:
        name: Dotted name; a package's own is that of its `__init__.py`.
        path: The file.
        text: Its source.
        tree: Its syntax tree.
        code: Numbers of the lines that hold code: no docstring, no comment, no blank.
    """

    name: str
    path: Path
    text: str
    tree: ast.Module
    code: frozenset[int]

    @property
    def is_package(self) -> bool:
        """True for an `__init__.py`, which counts as no module of its own."""
        return self.path.name == "__init__.py"

    @property
    def num_lines(self) -> int:
        """Lines of the file, blanks and comments included."""
        return len(self.text.splitlines())


def read_modules(root: Path) -> dict[str, Module]:
    """All modules of the package in a checkout, by dotted name, sorted.

    Args:
        root: Folder that holds `wavshap_lightning/`.
    """
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        modules[name] = Module(name, path, text, tree, _code_lines(text, tree))
    return modules


def _code_lines(text: str, tree: ast.Module) -> frozenset[int]:
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for _, docstring in _docstrings(tree):
        lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return frozenset(lines)


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, ast.Constant]]:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr):
            constant = node.body[0].value
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                yield constant.value, constant


# Layout


def files_per_folder(modules: Mapping[str, Module]) -> Counter[str]:
    """Number of modules directly in each folder, `__init__.py` left out."""
    return Counter(name.rpartition(".")[0] for name, module in modules.items() if not module.is_package)


def code_per_ring(modules: Mapping[str, Module]) -> Counter[str]:
    """Code lines of each folder directly below the package; files at its root count as `(root)`."""
    lines: Counter[str] = Counter()
    for name, module in modules.items():
        parts = name.split(".")
        in_folder = len(parts) > 2 or (module.is_package and len(parts) == 2)
        lines[parts[1] if in_folder else "(root)"] += len(module.code)
    return lines


# Imports


def imports_of(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Modules of the package each one imports, also inside functions and under `TYPE_CHECKING`."""
    return {name: set(_imported(module, modules)) - {name} for name, module in modules.items()}


def _imported(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            for alias in node.names:
                # `from package import name`: the name may be a module itself, else it stands in `package`.
                submodule = f"{origin}.{alias.name}"
                if submodule in modules or origin in modules:
                    yield submodule if submodule in modules else origin


def _origin(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    above = module.name.split(".")
    above = above[: len(above) - node.level + module.is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def import_cycles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or around a circle; each group sorted.

    >>> import_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    [['a', 'b', 'c']]
    """
    reach = {name: _reachable(name, imports) for name in imports}
    groups = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in imports}
    return [list(group) for group in sorted(groups) if group]


def _reachable(start: str, imports: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [*imports[start]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports[name]
    return found


def small_modules(modules: Mapping[str, Module]) -> dict[str, str]:
    """Modules under 80 lines with a single importer, each with that importer."""
    imports = imports_of(modules)
    importers = {name: [other for other in imports if name in imports[other]] for name in modules}
    return {
        name: importers[name][0]
        for name, module in modules.items()
        if not module.is_package and module.num_lines < SMALL_LINES and len(importers[name]) == 1
    }


# Functions, records, docstrings


def function_lengths(modules: Mapping[str, Module]) -> dict[str, int]:
    """Code lines of every function and method, signature included, by its place (`module:line name`)."""
    return {
        f"{name}:{node.lineno} {node.name}": sum(
            node.lineno <= line <= (node.end_lineno or node.lineno) for line in module.code
        )
        for name, module in modules.items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def record_types(modules: Mapping[str, Module]) -> list[str]:
    """Names of all dataclasses, named tuples and typed dictionaries."""
    return [
        f"{name}.{node.name}"
        for name, module in modules.items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and any(_called(part) in _RECORDS for part in (*node.decorator_list, *node.bases))
    ]


def _called(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _called(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def vague_docstrings(modules: Mapping[str, Module]) -> list[str]:
    """Docstrings that open with What, Which, Where, Whether or Whose, or send the reader elsewhere."""
    return [
        f"{name}:{place.lineno} {text.splitlines()[0]}"
        for name, module in modules.items()
        for text, place in _docstrings(module.tree)
        if _OPENERS.match(text) or "See there" in text
    ]


def percentile(values: list[int], share: float) -> int:
    """Smallest value that at least a share of all values does not exceed.

    >>> percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.9)
    9
    """
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
