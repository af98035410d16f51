"""Provenance of a classifier: the split of its corpus, the versions of its libraries, its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

CROSS_VALIDATED = ("uar", "uar_low", "uar_high", "resampled", "wa", "macro_f1")


@dataclass(frozen=True)
class TrainingProvenance:
    """Provenance of a classifier, in plain JSON types; empty where it is unknown.

    Args:
        protocol: The split it was trained on, as `Protocol.to_dict()` gives it, with its fold.
        versions: Versions of the libraries that trained it.
        scores: Its own on the clips of its `test` part, and those of all folds of its `cross_validation`.
    """

    protocol: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_scores(run: Path, protocol: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores that lie in a run's folder, and in that of the cross-validation it is part of.

    Args:
        run: The folder of the run.
        protocol: The split of the classifier; scores of another are no scores of this one.
    """
    scores = {}
    test, folds = _read(run / "test.json"), _read(run.parent / "cv.json")
    if _same(test, protocol, ("hash", "fold", "digest")):
        scores["test"] = own_scores(test)
    if _same(folds, protocol, ("hash",)):
        known = {name: folds[name] for name in CROSS_VALIDATED if name in folds}
        scores["cross_validation"] = {"folds": len(folds["folds"]), **known}
    return scores


def own_scores(content: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a `test.json`: its finite numbers."""
    numbers = {name: value for name, value in content.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if isfinite(value)}


def _same(content: Mapping[str, Any], protocol: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    found = content.get("protocol", {})
    return bool(found) and all(found.get(name) == protocol.get(name) for name in names)


def _read(path: Path) -> dict[str, Any]:
    """The content of a JSON file; nothing where there is none, or another program's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
