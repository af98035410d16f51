"""Explanations on disk: one safetensors file, or JSON and NPZ files that anything can read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import inf, isinf
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wavshap_lightning.attribution.record import Attribution, ViewEstimate
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.audio.segments import Segment
from wavshap_lightning.errors import AttributionError, WavshapError
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.files import write_atomically

# Versions of both formats; a file of another one is refused. Older readers refuse what they would misread.
FORMAT_OF_CLASSES, FORMAT = 2, 3
ATTRIBUTION_FORMAT = 1

METADATA_KEY = "explanation"
UNREADABLE = (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, WavshapError)

# Fields of an explanation that are no plain JSON types.
NOT_PLAIN = ("attributions", "settings", "times", "frame_level_db", "diagnostics", "task", "tiers")

# Fields that are left out where nothing is known, as before they existed.
IF_KNOWN = ("scale", "votes", "annotated_values", "cues")


@dataclass(frozen=True)
class SavedClip:
    """Contents of the two files of a clip, for one target.

    Args:
        numbers: Plain JSON types, as from
            [`Explanation.to_dict`][wavshap_lightning.explainer.explanation.Explanation.to_dict].
        arrays: `frame_attribution` and `frame_stderr` `(frames,)`, `layer_frame` `(layers, frames)`,
            `layer_neuron` `(layers, neurons)`, `band_frame` `(bands, frames)`, and `waveform` `(samples,)`
            if it was requested; arrays of stages that were not explained are missing. Each of the three maps
            comes with the half-widths of its 95 % intervals, such as `band_frame_half_width`, if the method
            has them; not finite where they are unknown.
    """

    numbers: Mapping[str, Any]
    arrays: Mapping[str, Shaped[np.ndarray, "..."]]


def save_clip(saved: SavedClip, folder: Path, stem: str) -> None:
    """Write `STEM.npz` and then `STEM.json`: where the latter is, the clip is finished.

    The same content gives the same bytes.

    Args:
        saved: Contents.
        folder: Folder of the files, made if it is not there.
        stem: Name of the files without suffix.

    Raises:
        OSError: If the file cannot be written.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **dict(sorted(saved.arrays.items())))  # type: ignore[arg-type] # the stubs take names for flags
    write_atomically(folder / f"{stem}.npz", content.getvalue())
    text = json.dumps(saved.numbers, ensure_ascii=False, allow_nan=False, indent=1)
    # A file name that is no text is written as JSON's escape.
    write_atomically(folder / f"{stem}.json", text.encode(errors="backslashreplace"))


def load_clip(folder: Path, stem: str) -> SavedClip:
    """Read the files that `save_clip` wrote.

    Args:
        folder: Folder of the files.
        stem: Name of the files without suffix.

    Raises:
        AttributionError: If a file is missing, damaged, or of another format.
    """
    path = folder / f"{stem}.json"
    try:
        numbers = json.loads(path.read_bytes())
        _check_format(numbers)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as held:
            return SavedClip(numbers, dict(held))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AttributionError(
            f"path={path} is not a saved explanation: {error}; explain the clip again"
        ) from error


def write_explanation(path: Path, fields: Mapping[str, Any]) -> None:
    """Write the fields of an explanation as one safetensors file, the plain ones as JSON in its header.

    Raises:
        OSError: If the file cannot be written.
    """
    tensors = {"frame_level_db": fields["frame_level_db"]}
    for stage, found in fields["attributions"].items():
        tensors |= {f"{stage}/{name}": values.contiguous() for name, values in _tensors_of(found)}
    header = {
        **{name: value for name, value in fields.items() if name not in (*NOT_PLAIN, *IF_KNOWN)},
        **format_of(fields),
        "settings": fields["settings"].to_dict(),
        "times": {stage: vars(times) for stage, times in fields["times"].items()},
        "attributions": [
            [stage, _plain_attribution(found)] for stage, found in fields["attributions"].items()
        ],
        "diagnostics": {name: [vars(one) for one in found] for name, found in fields["diagnostics"].items()},
    }
    if header["agreement"] is None:
        del header["agreement"]  # as before it existed
    if fields["tiers"]:
        header["tiers"] = {name: [asdict(one) for one in tier] for name, tier in fields["tiers"].items()}
    plain = json.dumps(header, sort_keys=True, allow_nan=False)
    write_atomically(path, save(tensors, {METADATA_KEY: plain}))


def format_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Format and task of a file, of classes as before there were other tasks; and fields that are known."""
    task, known = fields["task"], {name: fields[name] for name in IF_KNOWN if fields[name]}
    named = {"format": FORMAT_OF_CLASSES} if task == "classes" else {"format": FORMAT, "task": task}
    return named | known


def _tensors_of(found: Attribution) -> Iterator[tuple[str, Tensor]]:
    for name, view in found.views.items():
        yield f"{name}/values", view.values
        if view.stderr is not None:
            yield f"{name}/stderr", view.stderr
    if found.unresolved is not None:
        yield "unresolved", found.unresolved


def _plain_attribution(found: Attribution) -> dict[str, Any]:
    freedom = {name: view.degrees_of_freedom for name, view in found.views.items()}
    return {
        "format": ATTRIBUTION_FORMAT,
        **{name: value for name, value in vars(found).items() if name not in ("views", "unresolved")},
        "target": vars(found.target),
        # JSON has no infinity; null stands for it
        "degrees_of_freedom": [(name, None if isinf(df) else df) for name, df in freedom.items()],
    }


def read_explanation(path: Path) -> dict[str, Any]:
    """Read the fields of an explanation that `write_explanation` wrote.

    Raises:
        AttributionError: If the file is missing, damaged, or not an explanation.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return _fields_of(header, tensors)
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise AttributionError(f"path={path} is not a saved explanation; {reason}") from error


def _fields_of(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    _check_format(header)
    diagnostics = header["diagnostics"].items()
    return {
        **{name: _from_json(value) for name, value in header.items() if name not in (*NOT_PLAIN, "format")},
        "task": header.get("task", "classes"),
        "attributions": {stage: _attribution(stage, held, tensors) for stage, held in header["attributions"]},
        "settings": ExplainSettings.from_dict(header["settings"]),
        "times": {stage: TimeGrid(**times) for stage, times in header["times"].items()},
        "frame_level_db": tensors["frame_level_db"],
        "diagnostics": {name: tuple(Diagnostic(**one) for one in found) for name, found in diagnostics},
        "tiers": {name: [Segment(**one) for one in tier] for name, tier in header.get("tiers", {}).items()},
    }


def _attribution(stage: str, held: dict[str, Any], tensors: Mapping[str, Tensor]) -> Attribution:
    plain = {name: _from_json(value) for name, value in held.items() if name != "format"}
    views = {
        name: ViewEstimate(
            tensors[f"{stage}/{name}/values"],
            tensors.get(f"{stage}/{name}/stderr"),
            inf if df is None else df,
        )
        for name, df in plain.pop("degrees_of_freedom")
    }
    target = Target(**{name: _from_json(value) for name, value in plain.pop("target").items()})
    return Attribution(**plain, views=views, target=target, unresolved=tensors.get(f"{stage}/unresolved"))


def _from_json(value: Any) -> Any:  # noqa: ANN401 - whatever a header holds
    """A field of a record, with tuples in place of JSON's lists."""
    return tuple(value) if isinstance(value, list) else value


def _check_format(numbers: Mapping[str, Any]) -> None:
    if numbers["format"] not in (FORMAT_OF_CLASSES, FORMAT):
        raise ValueError(f"format={numbers['format']}, this version reads {FORMAT_OF_CLASSES} and {FORMAT}")
