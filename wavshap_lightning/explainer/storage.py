"""An explanation as plain values and tensors, of which a file is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from wavshap_lightning.attribution.record import Attribution, Parts, from_json
from wavshap_lightning.explainer.grids import TimeGrid
from wavshap_lightning.explainer.settings import ExplainSettings

FORMAT = 1
PLAIN_FIELDS = (
    "logits",
    "clip",
    "clip_sha256",
    "clip_start_s",
    "clip_end_s",
    "sample_rate",
    "num_samples",
    "labels",
    "band_edges_hz",
)


def pack(fields: Mapping[str, Any]) -> Parts:
    """Plain JSON types, and tensors by name.

    Args:
        fields: Of an explanation, by name.
    """
    parts = {path: found.to_parts() for path, found in fields["attributions"].items()}
    tensors = {f"{path}/{name}": t for path, (_, held) in parts.items() for name, t in held.items()}
    header = {
        "format": FORMAT,
        **{name: fields[name] for name in PLAIN_FIELDS},
        "settings": fields["settings"].to_dict(),
        "times": {path: asdict(times) for path, times in fields["times"].items()},
        "attributions": [[path, plain] for path, (plain, _) in parts.items()],
    }
    return header, {**tensors, "frame_level_db": fields["frame_level_db"]}


def unpack(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields that `pack` was given.

    Raises:
        KeyError: If something is missing.
        ValueError: If it is of another format.
    """
    if header["format"] != FORMAT:
        raise ValueError(f"format={header['format']}, this version reads format={FORMAT}")
    attributions = {
        path: Attribution.from_parts(held, _below(path, tensors)) for path, held in header["attributions"]
    }
    return {
        **{name: from_json(header[name]) for name in PLAIN_FIELDS},
        "attributions": attributions,
        "settings": ExplainSettings.from_dict(header["settings"]),
        "times": {path: TimeGrid(**times) for path, times in header["times"].items()},
        "frame_level_db": tensors["frame_level_db"],
    }


def _below(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{path}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
