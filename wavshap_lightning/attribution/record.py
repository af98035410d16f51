"""The record of an explanation: what was found, how sure it is, and what it was found with."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from math import inf, isinf
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from scipy.special import stdtrit
from torch import Tensor

from wavshap_lightning.attribution.estimation.moments import unit_sum
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError, WavshapError
from wavshap_lightning.files import write_atomically


@dataclass(frozen=True)
class ViewEstimate:
    """The attributions of one view.

    Args:
        values: Attribution of each unit to each target, after the correction.
        stderr: Standard error of each; None for methods without chance.
        degrees_of_freedom: Of Student's t for intervals.
    """

    values: Float64[Tensor, "targets *units"]
    stderr: Float64[Tensor, "targets *units"] | None
    degrees_of_freedom: float = float("inf")

    def half_width(self, level: float = 0.95) -> Float64[Tensor, "targets *units"]:
        """Half the width of the interval that covers the estimated mean with this probability, unit by unit.

        Raises:
            AttributionError: If the method has no standard error.
        """
        if self.stderr is None:
            raise AttributionError("stderr=None: this method has no chance in it, and so no interval")
        return self.stderr * float(stdtrit(self.degrees_of_freedom, (1 + level) / 2))


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Args:
        views: The views' attributions by name.
        num_draws: Gradient evaluations it took.
        mean_baseline_score: Mean score of the baselines for each target; None for methods without baselines.
        baseline_score_std: How far the baselines' scores scatter.
        gap: Sum of the attributions before the correction, minus `score - mean_baseline_score`.
        unresolved: Units of the view of the tolerance whose interval is still too wide; None without
            tolerance.
        draws_needed: How many draws would resolve them, if the error falls as that of independent draws does;
            None if all are resolved.
    """

    views: dict[str, ViewEstimate]
    num_draws: int
    mean_baseline_score: Float64[Tensor, " targets"] | None
    baseline_score_std: Float64[Tensor, " targets"] | None
    gap: Float64[Tensor, " targets"] | None
    unresolved: Bool[Tensor, "targets *units"] | None
    draws_needed: int | None


FORMAT = 1
MAX_NAMED = 10
METADATA_KEY = "attribution"

Parts = tuple[dict[str, Any], dict[str, Tensor]]
"""Of a record: plain JSON types, and tensors by name."""

T = TypeVar("T")

VERSIONS: Mapping[str, str] = {
    "wavshap-lightning": version("wavshap-lightning"),
    "torch": torch.__version__,
    "python": platform.python_version(),
}


@dataclass(frozen=True)
class Provenance:
    """What was explained, by the word of whoever asked.

    Args:
        clip_sha256: Digest of the clip's audio.
        model_fingerprint: What identifies the model's weights.
    """

    clip_sha256: str = ""
    model_fingerprint: str = ""


@dataclass(frozen=True)
class Attribution:
    """One explanation.

    Numbers with one entry a target are in the order of `target.classes`.

    Args:
        method: What it was made with.
        estimand: In words, what the values estimate: the mean over which baselines.
        views: Attributions by view, after the correction.
        target: What was explained.
        prediction: The class with the largest logit.
        score: The target's scores of the input.
        mean_baseline_score: Mean score of the baselines; None for methods without.
        baseline_score_std: How far their scores scatter.
        gap: Completeness gap before the correction: sum of the attributions minus
            (`score - mean_baseline_score`); None where completeness is not claimed.
        num_draws: Gradient evaluations.
        seed: Reproduces the draws, given as `generator`; None where there is no chance.
        settings: What else it was made with, in plain JSON types.
        input_sha256: Digest of the input tensor.
        provenance: Clip and model.
        versions: Of the software.
        unresolved: Units, of the view the tolerance was for, whose interval is too wide; None without
            tolerance.
        draws_needed: How many draws would resolve them, estimated; None if all are.
    """

    method: str
    estimand: str
    views: Mapping[str, ViewEstimate]
    target: Target
    prediction: int
    score: tuple[float, ...]
    mean_baseline_score: tuple[float, ...] | None
    baseline_score_std: tuple[float, ...] | None
    gap: tuple[float, ...] | None
    num_draws: int
    seed: int | None
    settings: Mapping[str, Any]
    input_sha256: str
    provenance: Provenance = field(default_factory=Provenance)
    versions: Mapping[str, str] = field(default_factory=lambda: dict(VERSIONS))
    unresolved: Bool[Tensor, "targets *units"] | None = None
    draws_needed: int | None = None

    @property
    def resolved(self) -> bool:
        """Whether the tolerance was reached; true where none was asked for."""
        return self.unresolved is None or not bool(self.unresolved.any())

    def unresolved_in_words(self) -> str:
        """Which units are not resolved, and how many draws it would take; empty if all are.

        The first ten are named by target and place, as in `class 1: 3, 4`, or `class 1: (3, 0), (3, 1)`.
        """
        if self.unresolved is None or self.draws_needed is None or not self.unresolved.any():
            return ""
        places = self.unresolved.nonzero().tolist()
        named: dict[int, list[str]] = {}
        for first, *rest in places[:MAX_NAMED]:
            place = "all" if not rest else str(rest[0]) if len(rest) == 1 else str((*rest,))
            named.setdefault(self.target.classes[first], []).append(place)
        words = "; ".join(f"class {index}: {', '.join(found)}" for index, found in named.items())
        more = ", ..." if len(places) > MAX_NAMED else ""
        return (
            f"{len(places)} of {self.unresolved.numel()} units are not resolved after {self.num_draws} draws "
            f"({words}{more}); about {self.draws_needed:.2g} draws would resolve them"
        )

    @property
    def relative_gap(self) -> tuple[float, ...] | None:
        """`|gap| / max(|score - mean baseline score|, scatter of the baselines' scores)`, a target each."""
        if self.gap is None or self.mean_baseline_score is None or self.baseline_score_std is None:
            return None
        rows = zip(self.gap, self.score, self.mean_baseline_score, self.baseline_score_std, strict=True)
        return tuple(abs(gap) / max(abs(score - mean), std, 1e-12) for gap, score, mean, std in rows)

    def sums(self, view: str) -> Float64[Tensor, " targets"]:
        """Sum of a view's attributions for each target."""
        return unit_sum(self.views[view].values)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, all of it or nothing; numbers and words lie as JSON in its header.

        The same record gives the same bytes.

        Raises:
            OSError: If the disk refuses.
        """
        write_record(Path(path), METADATA_KEY, self.to_parts())

    @classmethod
    def load(cls, path: str | Path) -> Attribution:
        """Read what `save` wrote.

        Raises:
            AttributionError: If the file is missing, damaged, or not such a record.
        """
        return read_record(Path(path), METADATA_KEY, cls.from_parts)

    def to_parts(self) -> Parts:
        """Plain JSON types and tensors, of which a file is made."""
        degrees = [(name, _without_infinity(view.degrees_of_freedom)) for name, view in self.views.items()]
        header = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in PLAIN_FIELDS},
            "target": self.target.as_dict(),
            "degrees_of_freedom": degrees,
            "provenance": vars(self.provenance),
        }
        tensors = {f"{name}/values": view.values for name, view in self.views.items()}
        tensors |= {
            f"{name}/stderr": view.stderr for name, view in self.views.items() if view.stderr is not None
        }
        return header, tensors if self.unresolved is None else {**tensors, "unresolved": self.unresolved}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Attribution:
        """What `to_parts` gave.

        Raises:
            KeyError: If something is missing.
            ValueError: If it is of another format.
        """
        if header["format"] != FORMAT:
            raise ValueError(f"format={header['format']}, this version reads format={FORMAT}")
        views = {
            name: ViewEstimate(
                tensors[f"{name}/values"], tensors.get(f"{name}/stderr"), inf if degrees is None else degrees
            )
            for name, degrees in header["degrees_of_freedom"]
        }
        plain = {name: from_json(header[name]) for name in PLAIN_FIELDS}
        return cls(
            **plain,
            views=views,
            target=Target.from_dict(header["target"]),
            provenance=Provenance(**header["provenance"]),
            unresolved=tensors.get("unresolved"),
        )


PLAIN_FIELDS = (
    "method",
    "estimand",
    "prediction",
    "score",
    "mean_baseline_score",
    "baseline_score_std",
    "gap",
    "num_draws",
    "seed",
    "settings",
    "input_sha256",
    "versions",
    "draws_needed",
)


def write_record(path: Path, key: str, parts: Parts) -> None:
    """Write a record as one safetensors file, whole or not at all, its plain part under `key` in the header.

    Raises:
        OSError: If the disk refuses.
    """
    header, tensors = parts
    plain = json.dumps(header, sort_keys=True, allow_nan=False)
    write_atomically(path, save({name: t.cpu().contiguous() for name, t in tensors.items()}, {key: plain}))


def read_record(path: Path, key: str, from_parts: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T:
    """Read what `write_record` wrote.

    Raises:
        AttributionError: If the file is missing, damaged, or not such a record.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[key])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return from_parts(header, tensors)
    except (
        OSError,
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        WavshapError,
    ) as error:
        reason = str(error).strip() or type(error).__name__
        raise AttributionError(
            f"path={path} is not a record of an {key} ({reason}); give a file that save() wrote"
        ) from error


def tensor_sha256(values: Tensor) -> str:
    """Digest of a tensor's numbers, shape and precision."""
    array = values.detach().cpu().contiguous()
    described = f"{array.dtype} {tuple(array.shape)} ".encode()
    return hashlib.sha256(described + array.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _without_infinity(number: float) -> float | None:
    return None if isinf(number) else number


def from_json(value: Any) -> Any:  # noqa: ANN401 - whatever a header holds
    """A field of a record: JSON has lists where a record has tuples."""
    return tuple(value) if isinstance(value, list) else value
