"""Do explanations of real models find a cue that is known?

Cues are planted in recordings of RAVDESS, whatever their emotion. Heads are trained to tell them on the
layers of Whisper tiny.en, of the embedded WavLM (layer norm), and of the same with a group norm put in, as
`train.py fit` trains them; twelve actors train, four choose the epoch, and eight, whom nothing was chosen on,
are reported: the rule of `explainer/defaults.py` was chosen on the four, with clips of another seed. Of each
actor there are as many clips, classified correctly, whose cue matters: without it the score is lower by 1 or
more. A class that nothing marks is left out. Maps are signed, in frames of 20 ms and summed over 100 ms; the
number is the area under the ROC curve, and its range the 95 % interval over actors.

    python benchmarks/evidence_real.py --root RAVDESS --backbones whisper-tiny.en
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Measurement, read_arguments, report
from _runs import planted_clips, planted_head
from torch import Tensor
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.audio.io import SAMPLE_RATE, load_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.controls import CONTROLS, control_maps
from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.evaluation.localization import inside_spans, roc_auc
from wavshap_lightning.explainer.defaults import NUM_REFERENCES, draw_references
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import Recording, open_recording
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.time_grid import times_of
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.models.pretrained import TINY_FOLDER

NEEDS = ["root", "cache_dir", "backbones", "clips", "planted", "panels"]
PANELS = ("defaults", "stages", "methods")
NUM_CLIPS = 64
UNMARKED = "neutral"
LEAST_CHANGE = 1.0
FRAMES_OF_100_MS = 5
SIZES = ("20 ms", "100 ms")
DEFAULT, IN_FOLDER, ALONE = (
    "default",
    "default, clips without labels",
    "default, one clip",
)
FAMILIES = ("noise", "spectral_noise", "other_clips", "same_speaker_neutral")
METHODS = ("occlusion", "kernel_shap", "lime")

Found = dict[str, list[tuple[float, float]]]
"""Areas at 20 and 100 ms of each clip, by the name of the map."""


@dataclass(frozen=True)
class Head:
    """A head to train and explain.

    Args:
        backbone: Name of the backbone in the report.
        layer: Layer that it reads, or `learned`.
        pooling: Its pooling.
    """

    backbone: str
    layer: str
    pooling: str

    def __str__(self) -> str:
        layer = "learned mix" if self.layer == "learned" else f"layer {self.layer}"
        return f"{self.backbone}, {layer}, {self.pooling}"

    @property
    def key(self) -> str:
        """Name of its folder."""
        own = f"{self.layer}-{self.pooling}"
        return own if self.backbone == WHISPER else f"{self.backbone.replace(' ', '-')}-{own}"


WHISPER, EMBEDDED, GROUP_NORM = "Whisper tiny.en", "embedded", "embedded with group norm"
BARS = {
    (WHISPER, DEFAULT, "20 ms"): 0.85,
    (WHISPER, DEFAULT, "100 ms"): 0.93,
    (WHISPER, ALONE, "20 ms"): 0.78,
    (GROUP_NORM, DEFAULT, "20 ms"): 0.80,
}
BAR_WORST_ACTOR, BAR_OVER_ENERGY = 0.75, 0.2
HEADS = (
    *(Head(WHISPER, *one) for one in product(("1", "2", "3", "4", "learned"), ("attentive", "mean"))),
    *(Head(name, layer, "attentive") for name in (EMBEDDED, GROUP_NORM) for layer in ("0", "3")),
)
IN_DETAIL = tuple(
    one for one in HEADS if one.key in ("1-attentive", "1-mean", "3-attentive", "embedded-0-attentive")
)
"""Heads explained from every stage, with every family and method."""


def main() -> None:
    """Plant, train, explain and report."""
    arguments = read_arguments(__doc__, needs=NEEDS, panels=[*PANELS], clips=NUM_CLIPS)
    torch.set_num_threads(2)
    folder = arguments.cache_dir.resolve() / f"evidence{'-quick' if arguments.quick else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    corpus = Planted(arguments.root.resolve(), arguments.planted or arguments.cache_dir / "planted-in")
    sources = {
        WHISPER: (arguments.backbones or [arguments.root.parent / "whisper-tiny.en"])[0].resolve(),
        EMBEDDED: "tiny",
        GROUP_NORM: write_group_norm(folder / "group-norm"),
    }
    found: dict[Head, Mapping[str, Any]] = {}
    for head in HEADS[:1] if arguments.quick else HEADS:
        for panel in arguments.panels if head in IN_DETAIL else {PANELS[0]} & {*arguments.panels}:
            found[head] = measure(head, corpus, folder, sources, arguments, panel=panel)
    name = "evidence_real" if PANELS[0] in arguments.panels else "evidence_real_stages"
    report(name, [*lines_of(found)], arguments)


class Planted:
    """The reported clips, with the sound that each cue replaced.

    Args:
        root: Folder of RAVDESS.
        folder: Where cues, clips and heads are kept.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self.clips = [clip for clip in planted_clips(folder, root) if clip.split == "test"]
        with (folder / "planted-0/sources.csv").open(newline="") as file:
            self._sources = {row["clip"]: row for row in csv.DictReader(file)}

    def without_cue(self, clip: Clip) -> Tensor:
        """The clip with the recorded sound where the cue is."""
        row, sound = self._sources["/".join(clip.path.parts[-2:])], load_audio(clip.path)
        begin = round(float(row["start_s"]) * SAMPLE_RATE)
        recorded = float(row["gain"]) * load_audio(row["source"])[begin:]
        for span in clip.evidence:
            place = slice(*(round(one * SAMPLE_RATE) for one in (span.start_s, span.end_s)))
            sound[place] = recorded[place]
        return torch.from_numpy(sound)


def write_group_norm(folder: Path) -> Path:
    """The embedded WavLM with a group norm over its first convolution, and no other norm in the frontend."""
    if not (folder / "model.safetensors").is_file():
        own = open_embedded()
        config = WavLMConfig.from_dict({**own.config.to_dict(), "feat_extract_norm": "group"})
        model = WavLMModel(config)
        missing = model.load_state_dict(own.state_dict(), strict=False)
        fresh = [name for name in missing.missing_keys if "layer_norm" not in name]
        assert not fresh, fresh  # noqa: S101 - all but the norm is the embedded model's
        model.save_pretrained(folder)
    return folder


def open_embedded() -> Any:  # noqa: ANN401 - a model of transformers
    """The embedded model as transformers knows it."""
    return WavLMModel.from_pretrained(TINY_FOLDER)


def measure(
    head: Head,
    corpus: Planted,
    folder: Path,
    sources: Mapping[str, str | Path],
    arguments: argparse.Namespace,
    *,
    panel: str,
) -> Found:
    """Areas of the maps of a head, of which those measured before are kept."""
    flags = ["--model.backbone.pad_to_window=false"] if head.backbone == WHISPER else []
    source = sources[head.backbone]
    checkpoint = planted_head(corpus.folder, head.key, source, head.layer, head.pooling, flags=flags)
    path = folder / f"{head.key}-{sha256(checkpoint.read_bytes()).hexdigest()[:12]}-{arguments.clips}.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    classifier = load_classifier(checkpoint)
    judged = draw_clips(classifier, corpus, arguments.clips)
    known["actors"] = [clip.speaker for clip in judged]
    for name, make in maps_of(classifier, corpus.clips, panel).items():
        if len(known.get(name, ())) != len(judged):
            known[name] = [areas(make(clip), clip, classifier) for clip in judged]
            path.write_text(json.dumps(known))
            means = [statistics.fmean(one[place] for one in known[name]) for place in (0, 1)]
            print(f"{head}: {name}: {means[0]:.3f} {means[1]:.3f} of {len(judged)}", flush=True)
    return known


def draw_clips(classifier: EmotionClassifier, corpus: Planted, count: int) -> list[Clip]:
    """As many of each actor, among those that are classified correctly and whose cue matters."""
    marked = [clip for clip in corpus.clips if clip.evidence and clip.label != UNMARKED]
    order = np.random.default_rng(0).permutation(len(marked)).tolist()
    drawn: dict[str, list[Clip]] = {clip.speaker: [] for clip in marked}
    for clip in (marked[index] for index in order):
        mine = drawn[clip.speaker]
        if len(mine) < -(-count // len(drawn)) and cue_matters(classifier, corpus, clip):
            mine.append(clip)
    return [clip for clips in drawn.values() for clip in clips]


def cue_matters(classifier: EmotionClassifier, corpus: Planted, clip: Clip) -> bool:
    """Whether the label is predicted, and its score is lower by 1 or more without the cue."""
    target = Target("log_odds", (classifier.labels.index(clip.label),))
    with torch.no_grad():
        sounds = torch.stack([torch.from_numpy(load_audio(clip.path)), corpus.without_cue(clip)])
        logits = classifier(sounds)
        scores = target(logits)[:, 0]
    is_right = classifier.labels[int(logits[0].argmax())] == clip.label
    return is_right and float(scores[0] - scores[1]) >= LEAST_CHANGE


def maps_of(classifier: EmotionClassifier, at_hand: Sequence[Clip], panel: str) -> dict[str, Any]:
    """Functions from a clip to its map, by name; a number for each frame."""
    grid = replace(classifier.backbone.frame_grid, max_frames=None)
    recordings: dict[Path, Recording] = {}

    def opened(clips: Sequence[Clip], clip: Clip) -> list[Recording]:
        used = [one for one in clips if one.path != clip.path][:NUM_REFERENCES]
        for one in used:
            if one.path not in recordings:
                recordings[one.path] = open_recording(one, grid)
        return [recordings[one.path] for one in used]

    def explained(clip: Clip, settings: ExplainSettings, family: str) -> Tensor:
        own = [one for one in at_hand if one.speaker == clip.speaker and one.label == UNMARKED]
        others = {
            "corpus": draw_references(at_hand),
            "folder": draw_references([replace(one, label="unknown") for one in at_hand]),
            "other_clips": [one for one in shuffled(at_hand) if one.speaker != clip.speaker],
            "same_speaker_neutral": own,
        }.get(family, [])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            explainer = Explainer(classifier, settings)
            given = opened(others, clip)
            return in_time(explainer.explain(clip, clip.label, recordings=given, check_baselines=False))

    def control(name: str, clip: Clip) -> Tensor:
        recording = open_recording(clip, classifier.backbone.frame_grid)
        own_seed = int(recording.sha256[:8], 16)  # cues lie at similar places in many clips
        generator = torch.Generator().manual_seed(own_seed)
        return control_maps(recording.waveform, classifier.backbone.frame_grid, generator)[name]

    if panel == "stages":
        pairs = product(("layers", "frames", "waveform"), FAMILIES)
        named = {(s, f): ExplainSettings(stages=(s,), baselines=f) for s, f in pairs}  # type: ignore[arg-type]
        return {
            f"{stage}, {family}": partial(explained, settings=settings, family=family)
            for (stage, family), settings in named.items()
        }
    if panel == "methods":
        methods = {one: ExplainSettings(method=one, baselines="noise") for one in METHODS}  # type: ignore[arg-type]
        return {name: partial(explained, settings=one, family="") for name, one in methods.items()}
    default = partial(explained, settings=ExplainSettings())
    given = {DEFAULT: "corpus", IN_FOLDER: "folder", ALONE: ""}
    return {
        **{name: partial(default, family=family) for name, family in given.items()},
        **{name: partial(control, name) for name in CONTROLS},
    }


def shuffled(clips: Sequence[Clip]) -> list[Clip]:
    """The clips in another order, always the same."""
    return [clips[index] for index in np.random.default_rng(1).permutation(len(clips)).tolist()]


def in_time(explanation: Explanation) -> Tensor:
    """The map in time; that of the waveform, whose spans are as long as the hop, at the frames' centers."""
    stage = explanation.time_stage or "frames"
    values = explanation.values(stage, "frames")
    if stage != "waveform":
        return values
    centers, spans = explanation.times["frames"].center_s(), explanation.times["waveform"].center_s()
    return values[np.abs(spans[None] - centers[:, None]).argmin(1)]


def areas(values: Tensor, clip: Clip, classifier: EmotionClassifier) -> tuple[float, float]:
    """Areas at 20 ms and at 100 ms, of which half must lie in the cue."""
    grid = classifier.backbone.frame_grid
    num_samples = len(open_recording(clip, grid).waveform)
    inside = inside_spans(times_of(grid, num_samples)["frames"].center_s(), clip.evidence)
    values = values[: len(inside)].double()
    count = len(inside) // FRAMES_OF_100_MS * FRAMES_OF_100_MS
    sums, shares = (one[:count].double().reshape(-1, FRAMES_OF_100_MS).sum(1) for one in (values, inside))
    return roc_auc(values, inside), roc_auc(sums, shares >= FRAMES_OF_100_MS / 2)


def lines_of(found: Mapping[Head, Mapping[str, Any]]) -> Iterator[Measurement]:
    """Lines of the report: of all heads together, then of each."""
    for backbone in (WHISPER, EMBEDDED, GROUP_NORM):
        heads = [one for head, one in found.items() if head.backbone == backbone and DEFAULT in one]
        yield from lines_of_backbone(backbone, heads)
    for (head, measured), (place, size) in product(found.items(), enumerate(SIZES)):
        for name in filter("actors".__ne__, measured):
            values = [one[place] for one in measured[name]]
            estimate = bootstrap_mean(values, measured["actors"])
            note = f"{len(values)} clips; worst actor {worst_actor(values, measured['actors']):.3f}"
            yield Measurement(
                f"{head}: {name}, {size}", estimate.value, estimate.low, estimate.high, note=note
            )


def lines_of_backbone(backbone: str, heads: Sequence[Mapping[str, Any]]) -> Iterator[Measurement]:
    """Means over the heads on a backbone, with what is claimed of them."""
    if not heads:
        return
    for name, (place, size) in product((DEFAULT, IN_FOLDER, ALONE), enumerate(SIZES)):
        means = [statistics.fmean(one[place] for one in head[name]) for head in heads]
        bar = BARS.get((backbone, name, size))
        note = f"{len(heads)} heads; range: least and greatest of a head"
        title = f"{backbone}: {name}, {size}"
        yield Measurement(title, statistics.fmean(means), min(means), max(means), at_least=bar, note=note)
    bars = (BAR_WORST_ACTOR, BAR_OVER_ENERGY) if backbone == WHISPER else (None, None)
    pairs = [(one[0], who) for head in heads for one, who in zip(head[DEFAULT], head["actors"], strict=True)]
    least = worst_actor(*zip(*pairs, strict=True))
    yield Measurement(f"{backbone}: worst actor, all heads", least, at_least=bars[0])
    worst = [worst_actor([one[0] for one in head[DEFAULT]], head["actors"]) for head in heads]
    note = "of a head; range: all heads"
    yield Measurement(
        f"{backbone}: worst actor", min(worst), min(worst), max(worst), at_least=bars[0], note=note
    )
    over = [
        statistics.fmean(one[0] - other[0] for one, other in zip(head[DEFAULT], head["energy"], strict=True))
        for head in heads
    ]
    yield Measurement(
        f"{backbone}: over energy", min(over), min(over), max(over), at_least=bars[1], note=note
    )


def worst_actor(values: Sequence[float], actors: Sequence[str]) -> float:
    """Least mean of an actor."""
    pairs = list(zip(values, actors, strict=True))
    return min(statistics.fmean(one for one, actor in pairs if actor == who) for who in {*actors})


if __name__ == "__main__":
    main()
