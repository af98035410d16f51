"""Explanations on disk: one safetensors file, or JSON and NPZ files that anything can read."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from wavshap_lightning.attribution.record import Attribution, Parts, from_json
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.files import write_atomically

# Versions of both formats; a file of another one is refused.
FORMAT = 2

METADATA_KEY = "explanation"

# Fields of an explanation that are no plain JSON types.
NOT_PLAIN = ("attributions", "settings", "times", "frame_level_db", "diagnostics")


@dataclass(frozen=True)
class SavedClip:
    """Contents of the two files of a clip, for one target.

    Args:
        numbers: Plain JSON types, as from
            [`Explanation.to_dict`][wavshap_lightning.explainer.explanation.Explanation.to_dict].
        arrays: `frame_attribution` and `frame_stderr` `(frames,)`, `layer_frame` `(layers, frames)`,
            `layer_neuron` `(layers, neurons)`, `band_frame` `(bands, frames)`, and `waveform` `(samples,)`
            where it was asked for; those whose stage was not explained are missing. Beside each of the three
            maps lie half the widths of its 95 % intervals, as `band_frame_half_width`, where there are any;
            not finite where nothing is known yet.
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
        OSError: If the disk refuses.
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


def pack_explanation(fields: Mapping[str, Any]) -> Parts:
    """Fields of an explanation as plain JSON types and tensors, of which a file is made."""
    parts = {stage: found.to_parts() for stage, found in fields["attributions"].items()}
    tensors = {f"{stage}/{name}": t for stage, (_, held) in parts.items() for name, t in held.items()}
    header = {
        "format": FORMAT,
        **{name: value for name, value in fields.items() if name not in NOT_PLAIN},
        "settings": fields["settings"].to_dict(),
        "times": {stage: vars(times) for stage, times in fields["times"].items()},
        "attributions": [[stage, plain] for stage, (plain, _) in parts.items()],
        "diagnostics": {name: [vars(one) for one in found] for name, found in fields["diagnostics"].items()},
    }
    return header, {**tensors, "frame_level_db": fields["frame_level_db"]}


def unpack_explanation(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of an explanation from the parts that `pack_explanation` gave."""
    _check_format(header)
    by_stage: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        stage, _, rest = name.partition("/")
        by_stage[stage][rest] = tensor
    return {
        **{name: from_json(value) for name, value in header.items() if name not in (*NOT_PLAIN, "format")},
        "attributions": {
            stage: Attribution.from_parts(held, by_stage[stage]) for stage, held in header["attributions"]
        },
        "settings": ExplainSettings.from_dict(header["settings"]),
        "times": {stage: TimeGrid(**times) for stage, times in header["times"].items()},
        "frame_level_db": tensors["frame_level_db"],
        "diagnostics": {
            name: tuple(Diagnostic(**one) for one in found) for name, found in header["diagnostics"].items()
        },
    }


def _check_format(numbers: Mapping[str, Any]) -> None:
    if numbers["format"] != FORMAT:
        raise ValueError(f"format={numbers['format']}, this version reads format={FORMAT}")
