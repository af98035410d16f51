"""One clip of `explain.py`, from its file to everything there is to write about it."""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.cli.explain_items import Item, audio_below
from wavshap_lightning.cli.explain_segments import segments_of
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.caveats import caveats
from wavshap_lightning.explainer.doctor import examine
from wavshap_lightning.explainer.explain import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.long import check_layers_fit
from wavshap_lightning.explainer.saved import SavedClip, describe_clip
from wavshap_lightning.explainer.settings import PATHS, RECORDED_FAMILIES, ExplainSettings
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.models.classifier import EmotionClassifier

BOTH = "noise,time_shifted"


@dataclass(frozen=True)
class Work:
    """What is done to every clip.

    Args:
        explainer: With the settings of all clips.
        target: What is explained, by name.
        baselines: Recordings to compare with, by their files.
        segments: An alignment, or a folder of some.
        tier: Of a TextGrid.
        keep_waveform: Whether it is kept among the arrays.
        families: Of baselines, to be compared on every clip; none where empty.
        may_leave_out: Whether views that memory does not hold may be left out, with a warning.
    """

    explainer: Explainer
    target: str
    baselines: dict[Path, Tensor]
    segments: str | None = None
    tier: str = ""
    keep_waveform: bool = False
    families: tuple[str, ...] = ()
    may_leave_out: bool = False


@dataclass(frozen=True)
class Explained:
    """One clip, explained.

    Args:
        item: Which.
        explanation: What was found.
        saved: The same, as it is written.
        waveform: The clip.
        seconds: How long it took.
    """

    item: Item
    explanation: Explanation
    saved: SavedClip
    waveform: Float32[np.ndarray, " num_samples"]
    seconds: float


def settings_of(options: Namespace) -> ExplainSettings:
    """How to explain, as it was asked for.

    Raises:
        SettingError: If an option is out of range, or two do not go together.
    """
    return ExplainSettings(
        views=PATHS if options.views is None else [v.strip() for v in options.views.split(",") if v.strip()],
        method=options.method,
        score=options.score,
        baselines=options.baseline,
        num_draws=options.draws,
        tolerance=options.tolerance,
        max_seconds=options.max_seconds,
        seed=options.seed,
        precision=options.precision,
        window_s=options.window,
    )


def prepare(options: Namespace, classifier: EmotionClassifier) -> Work:
    """Check everything that can be checked before the first clip.

    Raises:
        SettingError: If an option is out of range, or two do not go together.
        AttributionError: If there is no such target; the message lists the labels.
        AudioError: If a recording to compare with cannot be read.
    """
    settings = settings_of(options)
    target_named(options.target, classifier.labels, 0, settings.score)
    if (settings.baselines in RECORDED_FAMILIES) != bool(options.baseline_clips):
        raise SettingError(
            f"baseline={settings.baselines!r}, baseline-clips={options.baseline_clips}: recordings are given "
            f"for {', '.join(RECORDED_FAMILIES)}, and for nothing else; give both or neither"
        )
    return Work(
        explainer=Explainer(classifier, settings),
        target=options.target,
        baselines=_read_all(options.baseline_clips, classifier.sample_rate),
        segments=options.segments,
        tier=options.tier,
        keep_waveform=options.waveform,
        families=_families(options.families, settings),
        may_leave_out=options.views is None,
    )


def explain_item(work: Work, item: Item) -> Explained:
    """Explain one clip.

    Raises:
        WavshapError: If it cannot be; the message says why.
    """
    began_s = time.monotonic()
    rate = work.explainer.classifier.sample_rate
    start_s, end_s = item.span_s
    waveform = load_audio(item.path, sample_rate=rate, start_s=start_s, end_s=end_s)
    work, left_out = _within_memory(work, len(waveform))
    found = segments_of(item, waveform, rate, work.segments, work.tier)
    spans = [(one.start_s, one.end_s) for one in found.segments]
    checkup = examine(work.explainer, item.recording, work.target, recordings=baselines_for(work, item))
    explanation, told = explain_spans(work, item, spans)
    notes = [*([found.warning] if found.warning else []), *left_out, *checkup.warnings]
    saved = describe_clip(
        explanation,
        label=item.label,
        texts=[one.text for one in found.segments],
        warnings=[*notes, *caveats(explanation, work.explainer.classifier), *told],
        checkup=checkup,
        waveform=torch.from_numpy(waveform) if work.keep_waveform else None,
    )
    if work.families:
        saved = replace(saved, numbers={**saved.numbers, "families": _agreement(work, item)})
    return Explained(item, explanation, saved, waveform, time.monotonic() - began_s)


def explain_spans(
    work: Work, item: Item, spans: Sequence[tuple[float, float]]
) -> tuple[Explanation, list[str]]:
    """An explanation with these segments, and what the engine warned of."""
    explainer = Explainer(work.explainer.classifier, replace(work.explainer.settings, segments=spans))
    others = baselines_for(work, item)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        explanation = explainer.explain(item.recording, work.target, recordings=others)
    told = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return explanation, [words for words in told if not words.startswith("tolerance=")]  # a caveat says it


def baselines_for(work: Work, item: Item) -> tuple[Tensor, ...]:
    """The recordings to compare a clip with: not itself."""
    return tuple(sound for path, sound in work.baselines.items() if path != item.path.resolve())


def _within_memory(work: Work, num_samples: int) -> tuple[Work, list[str]]:
    """Without the path from the layers where they are gigabytes and nobody named it, and words about that."""
    settings, classifier = work.explainer.settings, work.explainer.classifier
    try:
        check_layers_fit(settings, classifier.backbone, num_samples)
    except SettingError:
        if not work.may_leave_out:
            raise
        fewer = replace(settings, views=tuple(view for view in settings.views if view != "layers"))
        words = "The layers of so long a recording take gigabytes; their path was left out."
        return replace(work, explainer=Explainer(classifier, fewer)), [words]
    return work, []


def _families(names: str, settings: ExplainSettings) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    for name in chosen:
        ExplainSettings.from_dict({**settings.to_dict(), "baselines": name})
    if len(chosen) == 1:
        raise SettingError(f"families={names!r} must name two families of baselines at least, such as {BOTH}")
    return chosen


def _agreement(work: Work, item: Item) -> list[dict[str, str | float | None]]:
    """How far the maps of each two families agree; None where one of them is constant."""
    from wavshap_lightning.evaluation.families import (  # noqa: PLC0415 - slow, and seldom asked for
        explain_by_family,
        family_agreement,
    )

    given = work.explainer.settings.to_dict()
    explainer = Explainer(
        work.explainer.classifier, ExplainSettings.from_dict({**given, "views": ["frames"], "segments": []})
    )
    found = explain_by_family(
        explainer, item.recording, work.target, families=work.families, recordings=baselines_for(work, item)
    )
    return [
        {"first": first, "second": second, "correlation": value if isfinite(value) else None}
        for (first, second), value in family_agreement(found).items()
    ]


def _read_all(names: Sequence[str], sample_rate: int) -> dict[Path, Tensor]:
    paths = [path for name in names for path in audio_below(Path(name))]
    return {path.resolve(): torch.from_numpy(load_audio(path, sample_rate=sample_rate)) for path in paths}
