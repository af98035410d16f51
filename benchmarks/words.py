"""Words and phones: planted cues within a word, shares of phones in two halves of RAVDESS, planted text.

1. **Planted cues.** Recordings with one planted cue that lies within one word (aligned by the package's
   aligner), and that a head on Whisper tiny predicts as labeled: has the word with the cue the largest
   attribution? Chance is one in the number of words. The heads are those of `reliability.py`.
2. **Phones.** Half of the clips of strong intensity of each actor of RAVDESS are explained by the fold
   that did not see the actor, with the annotated emotion as target. Mean shares of the classes of
   phones of actors 1 to 12 against 13 to 24: Spearman's correlation of the classes of phones, for each
   emotion.
3. **Text.** A head of one hidden layer on the mean of a layer of Whisper is trained on actors 1 to 12
   and explained on 13 to 24, whose clips say both sentences in every emotion. In training one emotion
   always says one sentence, which the others never say, or say too. Without the shortcut the sentence
   of each training clip is drawn, 20 times. Does the warning of text come, where clips are explained for
   their prediction, and where all are explained for that emotion (without the shortcut, for one emotion
   after another)? Attributions are integrated gradients from the mean training frame, which for this head
   need the mean only. With `--tune`, the halves of the actors are exchanged and the seeds are others: the
   limit of the warning was chosen there.

Everything is kept below `--cache-dir`, so that the command resumes.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _common import RESULTS, Measurement, read_arguments, report
from _runs import planted_whisper
from scipy.stats import spearmanr
from torch import Tensor, nn

from wavshap_lightning.audio.aligner import align
from wavshap_lightning.audio.segments import PAUSE, Segment, with_pauses
from wavshap_lightning.corpora.catalogue import CORPORA
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import spoken_text
from wavshap_lightning.errors import AudioError
from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.evaluation.words import PHONES, clip_words, find_text_reliance, summarize_parts
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.recording import Recording, open_recording
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.backbone import BackboneSettings, SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier

HEAD, LAYER = "3-attentive", 3
PANELS = {"planted": "the word with", "phones": "phone classes", "text": "warned"}
"""How the names of the numbers of each panel begin."""

INSIDE, BAR_PLANTED, BAR_RANKS, NUM_SHUFFLES = 0.9, 80.0, 0.8, 20
NUM_DRAWS, HIDDEN, STEPS, NODES = 16, 32, 200, 16

Words = Mapping[str, Any]


def main() -> None:
    """Measure the panels that are asked for, take the others from the last report, and report."""
    needs = ["root", "cache_dir", "backbones", "clips", "planted", "panels", "folds", "tune"]
    arguments = read_arguments(__doc__, needs=needs, clips=60, panels=[*PANELS])
    name = "words-tune" if arguments.tune else "words"
    last = RESULTS / f"{name}.json"
    before = json.loads(last.read_text())["measurements"] if last.is_file() else []
    known = [Measurement(**{key: one[key] for key in one.keys() - {"missed"}}) for one in before]
    measurements: list[Measurement] = []
    for panel, measure in zip(PANELS, (measure_planted, measure_phones, measure_text), strict=True):
        kept_ones = [one for one in known if one.name.startswith(PANELS[panel])]
        measurements += measure(arguments) if panel in arguments.panels else kept_ones
    report(name, measurements, arguments)


def measure_planted(arguments: Namespace) -> list[Measurement]:
    """How often the word that holds the cue has the largest attribution."""
    clips, heads = planted_whisper(arguments.planted, arguments.root, arguments.backbones[0])
    explainer = Explainer(load_classifier(heads[HEAD]), ExplainSettings())
    clips = [clip for clip in clips if clip.split == "test" and len(clip.evidence) == 1]
    order = np.random.default_rng(0).permutation(len(clips))
    rows: list[Mapping[str, Any]] = []
    for clip in (clips[place] for place in order):
        row = kept(
            arguments.cache_dir,
            ["planted", HEAD, str(clip.path)],
            lambda clip=clip: _planted(explainer, clip),
        )
        rows += [row] if row else []
        if len(rows) == arguments.clips:
            break
    right = [row["word"] == row["largest"] for row in rows]
    speakers, chance = [row["speaker"] for row in rows], fmean(1 / row["num_words"] for row in rows)
    found = bootstrap_mean(right, speakers)
    facts = f"{len(rows)} clips of {len({*speakers})} speakers; chance {chance:.0%}"
    name = "the word with the planted cue has the largest attribution"
    number = Measurement(
        name, 100 * found.value, 100 * found.low, 100 * found.high, "%", at_least=BAR_PLANTED, note=facts
    )
    return [number]


def _planted(explainer: Explainer, clip: Clip) -> dict[str, Any]:
    """Word with the cue and word with the largest attribution; empty where the clip does not qualify."""
    recording = aligned(explainer.classifier, clip, clip.text or "")
    if recording is None:
        return {}
    words, (cue,) = recording.tiers["words"], clip.evidence
    overlap = [min(one.end_s, cue.end_s) - max(one.start_s, cue.start_s) for one in words]
    holder = int(np.argmax(overlap))
    if overlap[holder] < INSIDE * (cue.end_s - cue.start_s) or words[holder].text == PAUSE:
        return {}
    found = explainer.explain(recording, check_baselines=False)
    if found.prediction != clip.label:
        return {}
    spoken = [place for place, one in enumerate(words) if one.text != PAUSE]
    values = found.to_columns("words")["attribution"]
    largest = max(spoken, key=lambda place: values[place])
    return {"word": holder, "largest": largest, "num_words": len(spoken), "speaker": clip.speaker}


def measure_phones(arguments: Namespace) -> list[Measurement]:
    """Agreement of the shares of classes of phones between two halves of the actors."""
    folds = sorted(arguments.folds.glob("fold_*/checkpoints/best.ckpt"))
    heads = [load_classifier(path) for path in folds]
    rows = []
    for clip in ravdess(arguments.root):
        actor, emotion, sentence = (int(clip.path.stem.split("-")[place]) for place in (6, 2, 4))
        if (actor + emotion + sentence) % 2:  # half of the clips, as many of each sentence
            continue
        head = next(one for one in heads if clip.speaker in _tested(one))
        key = ["phones", str(NUM_DRAWS), str(arguments.folds), clip.path.name]
        rows += [kept(arguments.cache_dir, key, lambda head=head, clip=clip: _explained(head, clip))]
    rows = [row for row in rows if row]
    halves = [[row for row in rows if (int(row["speaker"]) > 12) == late] for late in (False, True)]
    parts = [
        {(one.target, one.part): one.share for one in summarize_parts(half, "phones")} for half in halves
    ]
    classes = sorted({target for target, _ in parts[0]})
    correlations = {}
    for target in classes:
        shares = [[half.get((target, name), 0.0) for name in (*PHONES, PAUSE)] for half in parts]
        correlations[target] = float(spearmanr(*shares).statistic)
    return [
        Measurement(
            f"phone classes, rank correlation of actors 1-12 and 13-24, {target}", value, at_least=BAR_RANKS
        )
        for target, value in correlations.items()
    ]


def _tested(head: EmotionClassifier) -> Sequence[str]:
    protocol = head.provenance.protocol
    return protocol["folds"][protocol["fold"]]["test"]


def _explained(head: EmotionClassifier, clip: Clip) -> Words:
    recording = aligned(head, clip, spoken_text(clip) or "")
    if recording is None:
        return {}
    explainer = Explainer(head, ExplainSettings(num_draws=NUM_DRAWS))
    found = explainer.explain(recording, clip.label, check_baselines=False)
    return clip_words(found.to_dict(), clip.speaker)


def measure_text(arguments: Namespace) -> list[Measurement]:
    """How often the warning comes with the planted shortcut, and without."""
    encoded = [*_encoded(arguments)]
    speakers = np.array([int(one["speaker"]) for one in encoded])
    training = (speakers > 12) if arguments.tune else (speakers <= 12)
    labels, first = np.array([one["label"] for one in encoded]), np.array([one["first"] for one in encoded])
    emotions, offset = sorted({*labels.tolist()}), 1000 if arguments.tune else 0
    fired: dict[str, list[bool]] = {"alone": [], "shared": [], "fixed": []}
    for seed, emotion in enumerate(emotions):
        own = labels == emotion
        for name, others in {"alone": ~own & ~first, "shared": ~own}.items():
            chosen = training & ((own & first) | others)
            head = _trained(encoded, chosen, offset + seed)
            fired[name].append(_warned(encoded, head, training, emotion))
            fired["fixed"] += [_warned(encoded, head, training, emotion, emotion)] if name == "alone" else []
    wrong: dict[str, list[bool]] = {"predicted": [], "fixed": []}
    for seed in range(NUM_SHUFFLES):
        rng = np.random.default_rng(offset + seed)
        sentence = {
            pair: bool(rng.integers(2))
            for pair in sorted({*zip(speakers.tolist(), labels.tolist(), strict=True)})
        }
        drawn = np.array([sentence[pair] for pair in zip(speakers.tolist(), labels.tolist(), strict=True)])
        head = _trained(encoded, training & (drawn == first), offset + seed)
        wrong["predicted"].append(_warned(encoded, head, training))
        wrong["fixed"].append(_warned(encoded, head, training, fixed=emotions[seed % len(emotions)]))
    each, alone = f"of {len(emotions)} emotions", "warned of the emotion, whose sentence no other says"
    return [
        Measurement(alone, sum(fired["alone"]), at_least=len(emotions), note=each),
        Measurement(f"{alone}, all clips explained for it", sum(fired["fixed"]), note=each),
        Measurement("warned of the emotion, whose sentence others say too", sum(fired["shared"]), note=each),
        Measurement(
            "warned without the shortcut",
            sum(wrong["predicted"]),
            at_most=0,
            note=f"of {NUM_SHUFFLES} shuffles",
        ),
        Measurement(
            "warned without the shortcut, all clips explained for one emotion",
            sum(wrong["fixed"]),
            note=f"of {NUM_SHUFFLES} shuffles",
        ),
    ]


Encoded = Sequence[Mapping[str, Any]]


def _trained(encoded: Encoded, chosen: np.ndarray, seed: int) -> tuple[nn.Module, Tensor]:
    """A head that is trained on some clips, and its baseline."""
    labels = sorted({one["label"] for one in encoded})
    means = torch.stack([one["frames"].mean(0) for one in encoded])
    truth = torch.tensor([labels.index(one["label"]) for one in encoded])
    return trained(means[chosen], truth[chosen], len(labels), seed)


def _warned(
    encoded: Encoded,
    trained_head: tuple[nn.Module, Tensor],
    training: np.ndarray,
    emotion: str | None = None,
    fixed: str | None = None,
) -> bool:
    """True if a head is warned of (for the emotion), on the other actors, explained for a fixed emotion."""
    labels, clips = sorted({one["label"] for one in encoded}), []
    for place in np.flatnonzero(~training):
        one = encoded[place]
        target, values = attributed(*trained_head, one["frames"], fixed and labels.index(fixed))
        words = [
            [name, end - start, float(values[low:high].sum())] for name, start, end, low, high in one["words"]
        ]
        clips.append({"target": labels[target], "speaker": one["speaker"], "tiers": {"words": words}})
    found = [*find_text_reliance(clips)]
    print(emotion, fixed, [(f"{one.value:.3f}", one.message[:60]) for one in found], flush=True)
    return any(emotion is None or one.message.startswith(f"{emotion} depends on") for one in found)


def trained(means: Tensor, truth: Tensor, num_labels: int, seed: int) -> tuple[nn.Module, Tensor]:
    """A head on the mean frame, and the mean of all, which is its baseline."""
    torch.manual_seed(seed)
    center, scale = means.mean(0), means.std(0)
    head = nn.Sequential(nn.Linear(means.shape[1], HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, num_labels))
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head((means - center) / scale), truth).backward()
        optimizer.step()
    with torch.no_grad():  # so that the head takes frames as they are
        head[0].bias -= head[0].weight @ (center / scale)
        head[0].weight /= scale
    return head, center


def attributed(
    head: nn.Module, center: Tensor, frames: Tensor, target: int | None = None
) -> tuple[int, Tensor]:
    """Class, by default that predicted, and integrated gradients of its log-odds for each frame."""
    mean = frames.mean(0)
    target = int(head(mean).argmax()) if target is None else target
    alphas = (torch.arange(NODES) + 0.5)[:, None] / NODES
    points = (center + alphas * (mean - center)).requires_grad_()
    logits = head(points)
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], 1).logsumexp(1)
    (gradients,) = torch.autograd.grad((logits[:, target] - others).sum(), points)
    return target, (frames - center) @ gradients.mean(0) / len(frames)


def _encoded(arguments: Namespace) -> Iterator[Mapping[str, Any]]:
    """Frames of one layer of Whisper, and the places of the words among them."""
    settings = BackboneSettings(name=str(arguments.backbones[0]), pad_to_window=False)
    classifier = EmotionClassifier(SpeechBackbone(settings), ["any", "other"]).eval()
    for clip in ravdess(arguments.root):
        path = arguments.cache_dir / "words" / f"{clip.path.stem}.pt"
        if not path.is_file():
            recording = aligned(classifier, clip, spoken_text(clip) or "")
            found: dict[str, Any] = {}
            if recording is not None:
                stages = Stages(classifier)
                with torch.no_grad():
                    frames = stages.encoder(stages.frontend(recording.waveform[None]))[0, LAYER]
                rate = len(frames) / recording.duration_s
                words = [
                    (one.text, one.start_s, one.end_s, round(one.start_s * rate), round(one.end_s * rate))
                    for one in recording.tiers["words"]
                ]
                found = {
                    "frames": frames.clone(),
                    "words": words,
                    "label": clip.label,
                    "speaker": clip.speaker,
                }
                found["first"] = "kids" in (spoken_text(clip) or "").lower()
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(found, path)
        if found := torch.load(path):
            yield found


def ravdess(root: Path) -> list[Clip]:
    """Clips of every actor, emotion and sentence: the first of strong intensity (of neutral, of normal)."""
    clips = CORPORA["ravdess"].load(root)
    return [
        clip
        for clip in clips
        if clip.path.stem.split("-")[5] == "01" and _is_strong(clip.path.stem.split("-"))
    ]


def _is_strong(fields: Sequence[str]) -> bool:
    return fields[3] == ("01" if fields[2] == "01" else "02")


def aligned(classifier: EmotionClassifier, clip: Clip, text: str) -> Recording | None:
    """A clip with its words and phones; None where the aligner refuses it."""
    recording = open_recording(clip, classifier.backbone.frame_grid)
    try:
        found = align(recording.waveform.numpy(), recording.sample_rate, text)
    except AudioError as error:
        print(error, flush=True)
        return None
    tiers: dict[str, list[Segment]] = {
        name: with_pauses(getattr(found, name), recording.duration_s) for name in ("words", "phones")
    }
    return Recording(**{**vars(recording), "tiers": tiers})


def kept(cache_dir: Path, parts: Sequence[str], compute: Callable[[], Any]) -> Any:  # noqa: ANN401 - plain JSON
    """A result that is written down when it is there, and read the next time."""
    path = cache_dir / "words" / f"{sha256(repr(parts).encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        write_atomically(path, json.dumps(compute()).encode())
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
