"""What people must know before they believe an explanation, and how it was made, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.report.reading import frames_of
from wavshap_lightning.viz.words import APOSTROPHE, METHODS, SCORES, number, percent

LARGE_GAP = 0.1
"""Relative to what is explained: from here on more draws are needed."""

MUCH_OUTSIDE = 0.5
"""Share of the magnitude outside speech that speaks for a shortcut."""


def warnings_of(saved: SavedClip) -> list[str]:
    """All reasons for doubt, the gravest first; empty where there are none."""
    paths = saved.numbers["stages"]
    found = [*map(_sentence, saved.numbers.get("warnings", ()))]
    found += [_unresolved(path, one) for path, one in paths.items() if not one["resolved"]]
    found += [_gap(path, one) for path, one in paths.items() if (one["relative_gap"] or 0) > LARGE_GAP]
    return [*found, *_outside_speech(saved), *_few_resolved(saved)]


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _unresolved(path: str, found: Mapping[str, Any]) -> str:
    needed = found.get("draws_needed")
    hint = f"; about {needed} draws would do" if needed else "; ask for more draws"
    return f"The {path} path stopped at {found['num_draws']} draws, before its tolerance was reached{hint}."


def _gap(path: str, found: Mapping[str, Any]) -> str:
    return (
        f"Along the {path} path the attributions missed their sum by {percent(found['relative_gap'])} before "
        "the rest was distributed over them; ask for more draws."
    )


def _outside_speech(saved: SavedClip) -> list[str]:
    shares = saved.numbers.get("shares")
    if shares is None or shares["pause"] + shares["edges"] <= MUCH_OUTSIDE:
        return []
    outside = percent(shares["pause"] + shares["edges"])
    return [
        (
            f"{outside} of the attribution{APOSTROPHE}s magnitude lies in pauses and at the edges: the "
            "classifier may have learned the recordings instead of the voices."
        )
    ]


def _few_resolved(saved: SavedClip) -> list[str]:
    said = []
    for path in ("frames", "waveform"):
        found = frames_of(saved, path)
        if found is None or found.shown.half_widths is None:
            continue
        count, resolved = len(found.start_s), int((~found.shown.unresolved).sum())
        if resolved < count / 2:
            said.append(
                f"Along the {path} path {resolved} of {count} frames are resolved; of the others, drawn "
                "pale, not even the sign is known. More draws resolve more."
            )
    return said


def settings_of(saved: SavedClip) -> dict[str, str]:
    """How the clip was explained: a name and words for each."""
    numbers, settings = saved.numbers, saved.numbers["settings"]
    paths = numbers["stages"]
    found = {
        "Explained": score_name(saved),
        "Score": f"{number(numbers['score'])} for the clip{_baseline(numbers)}",
        "Sum of attributions": number(numbers["attribution_sum"], signed=True),
        "Completeness gap before the correction": ", ".join(
            f"{path} {gap(one)}" for path, one in paths.items()
        ),
        "Method": _each(METHODS.get(one["method"], one["method"]) for one in paths.values()),
        "Estimated": _each(one["estimand"] for one in paths.values()),
        "Draws": ", ".join(f"{one['num_draws']} for {path}" for path, one in paths.items()),
        "Seed": _each(one["seed"] for one in paths.values() if one["seed"] is not None),
        "Precision": settings.get("precision"),
        "Tolerance": settings.get("tolerance"),
        "Duration": f"{numbers['duration_s']:.3f} s at {numbers['sample_rate']} Hz",
        "SHA-256": numbers.get("sha256"),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _each(words: Iterable[object]) -> str:
    """Each once, in their order."""
    return ", ".join(dict.fromkeys(map(str, words)))


def _baseline(numbers: Mapping[str, Any]) -> str:
    mean = numbers.get("baseline_score")
    return "" if mean is None else f", {number(mean)} on average for the baselines"


def score_name(saved: SavedClip) -> str:
    """What is explained, in words: the unit of all attributions."""
    kind, target = saved.numbers["settings"]["score"], saved.numbers["target"]
    return SCORES[kind].format(target) if target in saved.numbers["labels"] else f"margin {target}"


def gap(found: Mapping[str, Any]) -> str:
    """The relative gap of a path."""
    return "not claimed" if found["relative_gap"] is None else percent(found["relative_gap"])


def largest_gap(saved: SavedClip) -> float | None:
    """Of all paths; None where none is claimed."""
    gaps = [one["relative_gap"] for one in saved.numbers["stages"].values()]
    return max((one for one in gaps if one is not None), default=None)
