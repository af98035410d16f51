"""The explainer: a classifier and settings, applied to clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from wavshap_lightning.audio.voice import VoiceMeasures, load_world
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import UNLABELED
from wavshap_lightning.errors import AttributionError, AudioError, SettingError
from wavshap_lightning.explainer.cues import FLAT, explain_cues, reference_clips
from wavshap_lightning.explainer.defaults import NEUTRAL, choose_stages
from wavshap_lightning.explainer.diagnostics import (
    Diagnostic,
    attribution_diagnostics,
    baseline_diagnostics,
    recording_diagnostics,
    run_baseline_checks,
    stage_diagnostics,
    stage_disagreements,
)
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import AudioSource, Recording
from wavshap_lightning.explainer.settings import (
    AUTO,
    PREDICTED,
    ExplainSettings,
    FamilyChoice,
    MethodName,
    PrecisionChoice,
    ScoreKind,
    StageChoice,
)
from wavshap_lightning.explainer.stage_attribution import open_clip
from wavshap_lightning.explainer.targets import target_names
from wavshap_lightning.explainer.time_grid import band_edges_hz, frame_level_db
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier

VOICES = (AUTO, NEUTRAL, "speaker", "corpus", FLAT)
"""References of the explanation in acoustic cues, besides the path of a clip."""

NOT_AT_HAND = (
    "No reference voice (cues_reference={!r}) is at hand for this clip: of its cues the pitch range alone is "
    "moved, to a flat pitch. Give labeled clips of the speaker, a clip as --cues_reference, or a model "
    "trained with data.num_voices."
)


class Explainer:
    """Explains clips with one classifier and one group of settings.

    Weights, gradients, training flags and random states are restored afterwards. A classifier in half or
    double precision is explained by a copy in single precision.

    Args:
        classifier: The classifier, on any device, or a MODEL that
            [`load_classifier`][wavshap_lightning.models.loading.load_classifier] opens.
        settings: Settings of the explanation; the defaults if None. Stages that the classifier lacks are left
            out; if it has none of those named, all of its own are used.

    Raises:
        ModelError: If the model cannot be opened.
        SettingError: If the settings name a layer that the classifier lacks.
    """

    def __init__(
        self, classifier: EmotionClassifier | str | PathLike[str], settings: ExplainSettings | None = None
    ) -> None:
        if isinstance(classifier, str | PathLike):
            classifier = load_classifier(classifier)
        if not isinstance(classifier, EmotionClassifier):
            raise SettingError(f"classifier is a {type(classifier).__name__}; give a classifier or a path")
        self.classifier = classifier
        self.settings = settings or ExplainSettings()
        choose_stages(self.settings, classifier)  # what does not go together is refused here
        num_layers = classifier.backbone.num_layers
        if self.settings.layer is not None and self.settings.layer >= num_layers:
            raise SettingError(f"layer={self.settings.layer} does not exist; use 0 to {num_layers - 1}")

    def explain(
        self,
        clip: AudioSource,
        target: str | Sequence[str] = PREDICTED,
        *,
        recordings: Sequence[AudioSource] = (),
        check_baselines: bool = True,
    ) -> Explanation:
        """Explain one clip.

        Args:
            clip: A file, a clip of a corpus, a waveform `(num_samples,)` at the classifier's sample rate, or
                an open recording.
            target: A label, `"predicted"` (of dimensions all), `"second"` (the class with the second largest
                logit), `"all"` classes at once (they share the forward passes), a margin such as
                `"happy-vs-sad"`, `"predicted-vs-second"` or `"listeners"` (of the two classes with the most
                votes), or a list of some labels. Of a classifier of several tasks, the one with such an
                output is explained, else the first.
            recordings: Baselines, where `settings.baselines` names a family of recordings.
            check_baselines: Run the diagnostics of the baselines, which need a few forward passes.

        Raises:
            AudioError: If the clip or a recording cannot be read, or is too short, too long, silent or not
                finite.
            AttributionError: If there is no such target, or clip, baselines and classifier do not go
                together.
            SettingError: If recordings are missing or not needed, or a segment lies beyond the clip's end.

        Warns:
            UserWarning: If the classifier is in training mode, the clip does not influence the score, or the
                tolerance is not reached.
        """
        first = target[0] if isinstance(target, list | tuple) and target else target
        classifier = self.classifier.part(str(first))
        with open_clip(classifier, clip, self.settings, recordings) as opened:
            asked = opened.target(target)
            attributions = opened.attribute_stages(asked)
            checks = run_baseline_checks(opened, asked, attributions) if check_baselines else None
        recording, settings, labels = opened.recording, opened.settings, classifier.labels
        doubts = [Diagnostic("model", "warning", message) for message in classifier.warnings]
        doubts += [*stage_diagnostics(classifier), *recording_diagnostics(recording)]
        doubts += baseline_diagnostics(checks) if checks else ()
        level_db = frame_level_db(recording.waveform, classifier.backbone.frame_grid)
        level_db = level_db[: opened.times["frames"].num_within(recording.duration_s)]
        num_bands = settings.num_bands if "waveform" in attributions else 0
        return Explanation(
            attributions=attributions,
            labels=labels,
            logits=tuple(opened.logits.tolist()),
            clip=recording.path,
            clip_sha256=recording.sha256,
            clip_start_s=recording.start_s,
            clip_end_s=recording.end_s,
            sample_rate=recording.sample_rate,
            num_samples=len(recording.waveform),
            times=opened.times,
            band_edges_hz=tuple(band_edges_hz(num_bands, recording.sample_rate)) if num_bands else (),
            frame_level_db=level_db,
            settings=settings,
            diagnostics={
                name: (
                    *doubts,
                    *attribution_diagnostics(attributions, index, level_db),
                    *stage_disagreements(attributions, index, opened.times, recording.duration_s),
                )
                for index, name in enumerate(target_names(asked, labels))
            },
            baseline_checks=checks,
            reasons=opened.reasons,
            task=classifier.task,
            scale=classifier.outputs[0].scale,
            votes=recording.votes,
            annotated_values=recording.annotated_values,
            tiers=recording.tiers,
        )


class ChosenVoice(NamedTuple):
    """The voice that cues are moved to.

    Args:
        kind: One of `neutral`, `speaker`, `corpus`, `flat` and `clip`.
        words: The voice in words.
        voice: What [`explain_cues`][wavshap_lightning.explainer.cues.explain_cues] takes as its reference.
        doubt: Warning if it is not the one that was asked for; empty otherwise.
    """

    kind: str
    words: str
    voice: Any
    doubt: str = ""


def check_voice(asked: str, average: Mapping[str, Any]) -> None:
    """Refuse a reference that no clip has.

    Args:
        asked: One of `VOICES`, or the path of a clip.
        average: Mean voice of the training clips; empty if unknown.

    Raises:
        SettingError: If it is no file either, or the model has no mean voice, or WORLD is not installed.
    """
    load_world()
    if asked == "corpus" and not average:
        raise SettingError("cues_reference='corpus': the model has none; train it with data.num_voices=64")
    if asked not in VOICES and not Path(asked).expanduser().is_file():
        raise SettingError(f"cues_reference={asked!r} is no file and none of {', '.join(VOICES)}")


def choose_voice(asked: str, clip: Clip, clips: Sequence[Clip], average: Mapping[str, Any]) -> ChosenVoice:
    """The voice that the cues of a clip are moved to.

    `auto` is the speaker's neutral clip, else the mean of the training clips, else the clip's own voice on a
    flat pitch; the last serves too where the one that is asked for is not at hand.

    Args:
        asked: One of `VOICES`, or the path of a clip.
        clip: The clip, with its label and speaker if they are known.
        clips: Clips to choose from.
        average: Mean voice of the training clips; empty if unknown.
    """
    neutral, own = (reference_clips(clip, clips, kind) for kind in ("neutral", "speaker"))
    known: dict[str, tuple[str, Any]] = {"flat": ("the clip on a flat pitch", FLAT)}
    if average:
        known["corpus"] = "the mean of the training clips", VoiceMeasures(**average)
    if own:
        known["speaker"] = f"the mean of {len(own)} clips of the speaker", own
    if neutral:
        known["neutral"] = f"the neutral clip {neutral[0].name}", neutral[0]
    if asked not in VOICES:
        known["clip"] = f"the reference {Path(asked).stem}", Clip(Path(asked).expanduser(), UNLABELED)
    kinds = (NEUTRAL, "corpus", FLAT) if asked == AUTO else (asked if asked in VOICES else "clip", FLAT)
    kind = next(one for one in kinds if one in known)
    return ChosenVoice(kind, *known[kind], NOT_AT_HAND.format(asked) if kind == FLAT != asked else "")


def with_cues(
    explanation: Explanation,
    classifier: EmotionClassifier,
    recording: Recording,
    chosen: ChosenVoice,
    target: str | None = None,
) -> tuple[Explanation, dict[str, Float[np.ndarray, " samples"]]]:
    """An explanation with one in acoustic cues, and the sounds that belong to it by name.

    A clip that has none, such as a whispered one, gets a warning among its diagnostics instead.

    Args:
        explanation: Explanation of the clip.
        classifier: The classifier.
        recording: The clip.
        chosen: The voice that its cues are moved to.
        target: One of the targets; None for the only one, or the prediction.
    """
    target, plain, sounds = target or explanation.default_target, {}, {}
    about: dict[str, Any] = {"target": target, "score": explanation.settings.score}
    about |= {"reference": chosen.voice, "reference_name": chosen.words}
    try:
        found = explain_cues(classifier, recording, **about)
        plain, doubts = {**found.to_dict(), "reference_kind": chosen.kind}, found.diagnostics
        moved = {"resynthesis": (), **{one.cue: (one.cue,) for one in found.cues}}
        moved |= {"all_cues": (*moved,)[1:]} if len(found.cues) > 1 else {}
        sounds = {name: found.sound(cues) for name, cues in moved.items()}
    except (AudioError, AttributionError) as error:
        doubts = (Diagnostic("cues", "warning", f"There is no explanation in cues: {error}"),)
    doubts += (Diagnostic("cues", "warning", chosen.doubt),) if chosen.doubt else ()
    diagnostics = {**explanation.diagnostics, target: (*explanation.diagnostics[target], *doubts)}
    return replace(explanation, cues=plain, diagnostics=diagnostics), sounds


def explain(
    classifier: EmotionClassifier | str | PathLike[str],
    clip: AudioSource,
    *,
    target: str | Sequence[str] = PREDICTED,
    recordings: Sequence[AudioSource] = (),
    stages: Sequence[StageChoice] = (AUTO,),
    method: MethodName = "gradient_shap",
    score: ScoreKind = "log_odds",
    baselines: FamilyChoice = AUTO,
    num_baselines: int | None = None,
    num_draws: int | None = None,
    tolerance: float | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    precision: PrecisionChoice | None = None,
    chunk_size: int | None = None,
    layer: int | None = None,
    segments: Sequence[Sequence[float]] = (),
    decibels: bool = False,
    num_bands: int = 24,
    num_spans: int | None = None,
) -> Explanation:
    """Explain one clip.

    Args:
        classifier: The classifier, on any device, or a MODEL that
            [`load_classifier`][wavshap_lightning.models.loading.load_classifier] opens.
        clip: A file, a clip of a corpus, or a waveform `(num_samples,)` at the classifier's sample rate.
        target: A label, `"predicted"` (of dimensions all), `"second"` (the class with the second largest
            logit), `"all"` classes at once, a margin such as `"happy-vs-sad"`, `"predicted-vs-second"` or
            `"listeners"` (of the two classes with the most votes), or a list of some labels. Of a classifier
            of several tasks, the one with such an output is explained, else the first.
        recordings: Baselines, where `baselines` names a family of recordings.
        stages: Stages of the model to attribute the score to: `"layers"` (the layers that the head reads:
            when, which layer, which neuron), `"frames"` (the input of the encoder: when), `"waveform"` (when
            and which frequency band; the slowest), or `"auto"` for one of them, by the rule of
            `wavshap_lightning.explainer.defaults`. All stages use the same baselines, and their attributions
            have the same sum.
        method: Attribution method: `"gradient_shap"`, `"integrated_gradients"`; for comparison, without
            completeness, `"saliency"`, `"input_x_gradient"`, `"smooth_grad"`; or, with stage `"frames"`, a
            method that removes spans of frames: `"occlusion"`, `"shapley"` (exact), `"kernel_shap"`,
            `"lime"`.
        score: Class score: `"log_odds"`, `"logit"`, `"log_probability"` or `"probability"`. For labels it is
            the `"logit"`, which is the log-odds, and for dimensions the `"value"`, without being given.
        baselines: Family of baselines (reference inputs), at the clip's level: `"noise"` (white),
            `"spectral_noise"` (with the clip's long-term spectrum), `"time_shifted"` (the clip, shifted
            circularly), `"silence"`, or recordings, which are given separately: `"other_clips"`,
            `"same_speaker_neutral"`, `"another_class"`. `"auto"`: of the recordings given those that are not
            predicted as the clip is, if there are 8 or more and the head reads layers, else noise.
        num_baselines: Number of baselines, drawn once and used throughout. None: a fresh baseline for every
            draw; all of the recordings; 4 for integrated gradients and methods that remove spans.
        num_draws: Number of draws for each stage, one gradient evaluation each. Integrated gradients divide
            them among the baselines. For `"kernel_shap"` and `"lime"`, evaluations of the score; the other
            methods do not need it. None: 64 (512 evaluations of the score), 128 from the layers alone with
            recordings that `"auto"` chose as baselines, or as many as a tolerance or a time limit takes.
            Together with one of these, the largest number of draws.
        tolerance: 95 % half-width to reach, relative to the largest attribution. It applies to every unit of
            the first view of each stage (every frame, for example).
        max_seconds: Time limit for the draws of a clip, in seconds. The result then depends on the machine.
        seed: Random seed.
        precision: Precision of the backbone: `"fp32"`, or `"bf16"` for autocast, whose error is measured and
            recorded; `"auto"` for `"bf16"` at stages where it is fast and its error is small, else `"fp32"`,
            with the reason in the record; None for the backbone's own.
        chunk_size: Number of draws in one batch. None: chosen from the size of the input and the memory.
        layer: Index of a layer to attribute by frame and neuron as well.
        segments: Spans `(start_s, end_s)` over which frames are summed, in order and without overlap.
        decibels: Space the nodes of integrated gradients on the waveform evenly in decibels, for paths from
            silence.
        num_bands: Number of frequency bands, evenly spaced in mel.
        num_spans: Number of equal spans to remove, unless `segments` are given. None: spans of five frames
            for `"occlusion"`, 8 spans for `"shapley"`, 16 for the others.

    Raises:
        WavshapError: If the model, the clip and the settings do not go together; the message says why.
    """
    given = locals()  # the keywords, which are the fields of the settings
    settings = ExplainSettings(**{one.name: given[one.name] for one in fields(ExplainSettings)})
    return Explainer(classifier, settings).explain(clip, target, recordings=recordings)
