"""`explain.py compare`: the same clips under other classifiers or other epochs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from wavshap_lightning.cli.clips import (
    ClipExplainer,
    ClipOptions,
    ExplainedClip,
    find_clips,
    label_of,
    open_model,
)
from wavshap_lightning.cli.explain import explain_all
from wavshap_lightning.cli.output import Output
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import check_comparable, compare, plain_comparisons
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import choose_epochs, epoch_of_model
from wavshap_lightning.viz.comparisons import plot_comparison


def compare_models(
    model: str,
    audio: list[str],
    clip: ClipOptions,
    settings: ExplainSettings,
    output: Output,
    *,
    others: Sequence[str] = (),
    epochs: str | None = None,
    device: str = "cpu",
) -> int:
    """Explain recordings with MODEL and with other models or epochs, from the same draws, and compare.

    Args:
        model: The first model.
        audio: Recordings; a synthetic clip is made if there are none.
        clip: The question about every clip.
        settings: How to explain.
        output: Files to write.
        others: Models to compare with.
        epochs: Epochs of MODEL's run to compare with, such as 9,19,29, or all.
        device: Where to compute, such as cpu, cuda or cuda:1.

    Returns:
        The exit status.

    Raises:
        WavshapError: If a model cannot be opened or compared with the first, or an epoch was not kept.
    """
    chosen = {} if epochs is None else choose_epochs(model, epochs)
    named = {**{name: name for name in others}, **{f"epoch {n}": str(path) for n, path in chosen.items()}}
    if not named:
        raise SettingError("others=[], epochs=None: give models to compare with, or epochs of the run")
    clips = find_clips(audio, output.folder)
    work = ClipExplainer(open_model(model, device), settings, clip, len(clips))
    classifiers = [_open_other(path, device, work) for path in named.values()]
    epoch = None if epochs is None else epoch_of_model(model)
    names = (model if epoch is None else f"epoch {epoch}", *named)

    def explain(clip: Clip) -> ExplainedClip:
        found = work.explain(clip)
        explanation, comparisons = found.explanation, []
        for other in classifiers:
            recordings = work.recordings_for(clip)
            comparisons.append(compare(work.explainer, other, clip, explanation, recordings=recordings))
            explanation = comparisons[0].first  # with the draws and the target of all
        return replace(found, comparisons=comparisons)

    def write(stem: str, found: ExplainedClip) -> None:
        output.write_clip(stem, found)
        clip, comparisons = found.clip, found.comparisons
        if output.figures:
            figure = plot_comparison(
                comparisons, found.waveform, names=names, label=label_of(clip), evidence=clip.evidence
            )
            output.write(f"compare/{stem}.png", figure)
        numbers = plain_comparisons(comparisons, names)
        text = json.dumps(numbers, ensure_ascii=False, allow_nan=False, indent=1)
        output.write(f"compare/{stem}.json", text)

    return explain_all(model, work, clips, output, explain=explain, write=write)


def _open_other(model: str, device: str, work: ClipExplainer) -> EmotionClassifier:
    first, other = work.classifier, open_model(model, device)
    check_comparable(first, other)
    target_named(work.options.target, other.labels, 0, work.explainer.settings.score)
    one, its = first.backbone, other.backbone
    if one.fingerprint == its.fingerprint and one.settings == its.settings and one.settings.frozen:
        other.backbone = one  # so that many epochs take no more memory than one
    return other
