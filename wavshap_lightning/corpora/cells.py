"""Cells: a clip as the flat, JSON-typed record that a manifest's row holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.errors import CorpusError

REQUIRED = ("path", "label")
TIMES = ("start_s", "end_s")
NESTED = ("evidence", "votes")
COLUMNS = (*REQUIRED, "speaker", "split", *TIMES, "text", "dialogue", "corpus", *NESTED)


def clip_to_cells(clip: Clip, base: Path) -> dict[str, Any]:
    """The fields of a clip that are filled, in the order of `COLUMNS`.

    The path becomes relative to `base` where it lies below it, and absolute where it does not.

    >>> clip_to_cells(Clip(Path("set/a.wav"), "sad", evidence=(Span(0.5, 0.9, "tremor"),)), Path("set"))
    {'path': 'a.wav', 'label': 'sad', 'evidence': [{'start_s': 0.5, 'end_s': 0.9, 'kind': 'tremor'}]}
    """
    cells = {name: getattr(clip, name) for name in COLUMNS}
    cells["path"] = _portable(clip.path, base)
    cells["evidence"] = [
        {"start_s": span.start_s, "end_s": span.end_s, "kind": span.kind} for span in clip.evidence
    ]
    cells["votes"] = [[label, count] for label, count in clip.votes]
    return {name: value for name, value in cells.items() if value is not None and value not in ("", [])}


def cells_to_clip(cells: Mapping[str, Any], base: Path) -> Clip:
    """The clip that `clip_to_cells` described; cells that are missing or null are empty fields.

    White space around a text is no part of it: another class or speaker would hide behind it.

    Raises:
        CorpusError: If the path or the label is missing, or a cell is of the wrong kind or out of range.
    """
    missing = [name for name in REQUIRED if not _text(cells, name)]
    if missing:
        raise CorpusError(f"missing={missing}, found={sorted(cells)}; every clip needs a path and a label")
    return Clip(
        path=base / _text(cells, "path"),
        label=_text(cells, "label"),
        speaker=_text(cells, "speaker"),
        corpus=_text(cells, "corpus"),
        split=_text(cells, "split") or None,
        start_s=_seconds(cells, "start_s"),
        end_s=_seconds(cells, "end_s"),
        evidence=tuple(_span(item) for item in _items(cells, "evidence")),
        text=_text(cells, "text") or None,
        votes=tuple(_vote(item) for item in _items(cells, "votes")),
        dialogue=_text(cells, "dialogue") or None,
    )


def _portable(path: Path, base: Path) -> str:
    whole = path.absolute()
    return (whole.relative_to(base.absolute()) if whole.is_relative_to(base.absolute()) else whole).as_posix()


def _text(cells: Mapping[str, Any], name: str) -> str:
    value = cells.get(name)
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{name}={value!r} must be text; put it in double quotes")
    return (value or "").strip()


def _seconds(cells: Mapping[str, Any], name: str) -> float | None:
    value = cells.get(name)
    return None if value is None else _number(value, name)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorpusError(f"{name}={value!r} must be a number")
    return float(value)


def _items(cells: Mapping[str, Any], name: str) -> list[Any]:
    value = cells.get(name) or []
    if not isinstance(value, list):
        raise CorpusError(f"{name}={value!r} must be a JSON list")
    return value


def _span(item: object) -> Span:
    if not isinstance(item, dict) or not set(TIMES) <= set(item) <= {*TIMES, "kind"}:
        raise CorpusError(
            f'evidence={item!r} must be a list of objects like {{"start_s": 0.5, "end_s": 0.9, "kind": ""}}'
        )
    return Span(_number(item["start_s"], "start_s"), _number(item["end_s"], "end_s"), _text(item, "kind"))


def _vote(item: object) -> tuple[str, float]:
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
        raise CorpusError(f'votes={item!r} must be a list of pairs like ["angry", 2]')
    return item[0].strip(), _number(item[1], "votes")
