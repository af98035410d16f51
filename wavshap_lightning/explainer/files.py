"""An explained clip as two files that anything can read: JSON for numbers, NPZ for maps."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.diagnostics import Checkup
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.files import write_atomically

FORMAT = 1

MAPS = (
    ("frame_attribution", "frames", "frames"),
    ("layer_frame", "layers", "layer_frame"),
    ("layer_neuron", "layers", "layer_neuron"),
    ("band_frame", "waveform", "band_frame"),
)
"""Name among the arrays, path, view."""


@dataclass(frozen=True)
class SavedClip:
    """What the two files of a clip hold, for one target.

    Args:
        numbers: What `describe_clip` gave: plain JSON types.
        arrays: `frame_attribution` and `frame_stderr` `(frames,)`, `layer_frame` `(layers, frames)`,
            `layer_neuron` `(layers, neurons)`, `band_frame` `(bands, frames)`, and `waveform` `(samples,)`
            where it was asked for; those whose path was not taken are missing. Beside each of the three maps
            lie half the widths of its 95 % intervals, as `band_frame_half_width`, where there are any;
            not finite where nothing is known yet.
    """

    numbers: Mapping[str, Any]
    arrays: Mapping[str, Shaped[np.ndarray, "..."]]


def describe_clip(
    explanation: Explanation,
    *,
    target: str | None = None,
    label: str | None = None,
    texts: Sequence[str] = (),
    warnings: Sequence[str] = (),
    checkup: Checkup | None = None,
    waveform: Float[Tensor, " samples"] | None = None,
) -> SavedClip:
    """What there is to save of one target of an explanation.

    Args:
        explanation: Which.
        target: One of its targets; None for the only one, or the prediction.
        label: What the clip was annotated as.
        texts: What is said in each of the settings' segments; empty for none.
        warnings: What people must know before they believe it.
        checkup: What the baseline doctor found.
        waveform: The clip, to be kept with the maps.

    Raises:
        AttributionError: If the target was not explained, or there are texts for other segments.
    """
    plain = explanation.to_dict(target=target)
    name = plain["target"]
    first = next(iter(plain["stages"].values()))
    totals = {key: first[key] for key in ("method", "baseline_score", "attribution_sum", "gap")}
    segments = _segments(plain, texts)
    numbers = {"format": FORMAT, **plain, **totals, "label": label, "warnings": list(warnings)}
    numbers |= {} if checkup is None else {"checkup": checkup.to_dict()}
    arrays = {
        key: array
        for key, path, view in MAPS
        if (array := _values(explanation, path, view, name)) is not None
    }
    arrays |= _half_widths(explanation, name)
    stderr = plain.get("frames", {}).get("stderr")
    if stderr is not None:
        arrays["frame_stderr"] = np.array(stderr, dtype=np.float64)
    if waveform is not None:
        arrays["waveform"] = waveform.detach().cpu().float().numpy()
    if len(explanation.targets) > 1:
        numbers["by_target"] = {one: _of_target(explanation, one) for one in explanation.targets}
    return SavedClip({**numbers, "segments": segments}, arrays)


def _of_target(explanation: Explanation, target: str) -> dict[str, Any]:
    """What differs from target to target; the rest is said once."""
    plain = explanation.to_dict(target=target)
    first = next(iter(plain["stages"].values()))
    numbers = {key: first[key] for key in ("baseline_score", "attribution_sum", "gap")}
    units: dict[str, Any] = {
        view: {key: plain[view][key] for key in ("attribution", "stderr", "half_width")}
        for view in ("frames", "layers", "bands")
        if view in plain
    }
    return {"score": plain["score"], **numbers, **units}


def save_clip(saved: SavedClip, folder: Path, stem: str) -> None:
    """Write `STEM.npz` and then `STEM.json`: where the latter is, the clip is finished.

    The same content gives the same bytes.

    Raises:
        OSError: If the disk refuses.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **dict(sorted(saved.arrays.items())))  # type: ignore[arg-type] # the stubs take names for flags
    write_atomically(folder / f"{stem}.npz", content.getvalue())
    text = json.dumps(saved.numbers, ensure_ascii=False, allow_nan=False, indent=1)
    # A name that is no text stands in JSON as what it is: an escape.
    write_atomically(folder / f"{stem}.json", text.encode(errors="backslashreplace"))


def load_clip(folder: Path, stem: str) -> SavedClip:
    """Read what `save_clip` wrote.

    Raises:
        AttributionError: If a file is missing, damaged, or of another format.
    """
    path = folder / f"{stem}.json"
    try:
        numbers = _checked(json.loads(path.read_bytes()))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as held:
            return SavedClip(numbers, dict(held))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AttributionError(
            f"path={path} is not a saved explanation: {error}; explain the clip again"
        ) from error


def _checked(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    if numbers["format"] != FORMAT:
        raise ValueError(f"format={numbers['format']}, this version reads format={FORMAT}")
    return numbers


def _values(explanation: Explanation, path: str, view: str, target: str) -> Shaped[np.ndarray, "..."] | None:
    if path not in explanation.attributions:
        return None
    return explanation.values(path, view, target).numpy()


def _half_widths(explanation: Explanation, target: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Those of the maps; the units with one axis have theirs among the numbers."""
    found = {
        key: explanation.half_widths(path, view, target)
        for key, path, view in MAPS
        if key != "frame_attribution" and path in explanation.attributions
    }
    return {f"{key}_half_width": half.float().numpy() for key, half in found.items() if half is not None}


def _segments(plain: Mapping[str, Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    """A row a segment; the last, without a span, is what lies elsewhere."""
    held = plain.get("segments")
    if held is None:
        return []
    if texts and len(texts) != len(held["span_s"]) - 1:
        raise AttributionError(
            f"texts: there are {len(texts)}, but {len(held['span_s']) - 1} segments; give one for each"
        )
    named = [*(texts or [""] * (len(held["span_s"]) - 1)), ""]
    spans = [span or (None, None) for span in held["span_s"]]
    columns = ("attribution", "stderr", "half_width")
    errors = {name: held[name] or [None] * len(spans) for name in columns}
    return [
        {"text": text, "start_s": span[0], "end_s": span[1], **{name: errors[name][row] for name in columns}}
        for row, (text, span) in enumerate(zip(named, spans, strict=True))
    ]
