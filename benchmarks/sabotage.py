"""Are planted defects of a study named on its page, and are clean studies left in peace?

Eighty studies of recordings of RAVDESS, 40 of them with one defect each, in turn:

- leaked speaker: a speaker spelled in two ways; recordings of one speaker under another's name as well;
  clips divided at random;
- chosen on test: settings and epochs with the best test scores; validation clips that are copies
  of test clips;
- a class that is never predicted: its logits are too low in every fold;
- hum of 50 or 60 Hz, from -65 to -45 dB relative to full scale, in most or all clips of one class;
- a gap between genders: men are recognized much worse than women.

Recordings, names, protocols, the audit and the measured conditions are real. Predictions are drawn: no model
is trained, so that a defect is there for certain and its size is known. A defect counts as named if an error
or warning of its kind stands on the page; any error or warning about a clean study is a false alarm. Limits
were chosen with `--tune`, on other actors (1 to 12, not 13 to 24) and other seeds.

    python benchmarks/sabotage.py --root DIR
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Measurement, read_arguments, report

from wavshap_lightning.audio.io import load_native, save_audio
from wavshap_lightning.corpora.audit import ClipFacts, audit_split, group_findings, measure_clip
from wavshap_lightning.corpora.catalogue import load_corpus
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.conditions import class_conditions
from wavshap_lightning.corpora.protocols import (
    Protocol,
    balanced_speaker_folds,
    official_split,
    random_clip_folds,
)
from wavshap_lightning.training.study.findings import find_faults, limits_of
from wavshap_lightning.training.study.results import Choice, System
from wavshap_lightning.training.study.settings import Cell, StudyCorpus
from wavshap_lightning.viz.report.study import render_study

NUM_STUDIES, FIRST_SEED, TUNING_SEED = 40, 1000, 0
NUM_SPEAKERS, CLIPS_EACH, NUM_FOLDS, NUM_SEEDS = 10, 3, 4, 3
LABELS = ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")
NAMES = {
    "leaked speaker": {"leaked speaker"},
    "chosen on test": {"chosen on the test clips"},
    "class never predicted": {"class never predicted"},
    "hum in one class": {"recording condition"},
    "gap between genders": {"gap between groups"},
}
BAR_NAMED, BAR_FALSE = 0.95, 0.05


@dataclass
class Draft:
    """A study before it is scored.

    Args:
        clips: The clips.
        protocol: How they are divided.
        rows: Keys that the systems have besides.
        low_label: Class that is never predicted.
        men: Strength of the right class for men, as a share of that for women.
        seed: Random seed of the predictions.
    """

    clips: Sequence[Clip]
    protocol: Protocol
    seed: int
    rows: dict[str, Any] = field(default_factory=dict)
    low_label: str | None = None
    men: float = 1.0


def main() -> None:
    """Make all studies, read their pages and report."""
    arguments = read_arguments(__doc__, needs=["root", "tune"])
    actors = range(1, 13) if arguments.tune else range(13, 25)
    everything = [one for one in load_corpus("ravdess", arguments.root) if int(one.speaker) in actors]
    first, number = TUNING_SEED if arguments.tune else FIRST_SEED, 5 if arguments.quick else NUM_STUDIES
    kinds = [*NAMES]
    with tempfile.TemporaryDirectory() as folder:
        sabotaged = [
            (
                kind := kinds[place % len(kinds)],
                read_page(everything, first + place, Path(folder), kind, place),
            )
            for place in range(number)
        ]
        clean = [read_page(everything, first + 500 + place, Path(folder)) for place in range(number)]
    measurements = [*measure(sabotaged, clean)]
    alarms = [sorted(found) for found in clean if found]
    report("sabotage-tune" if arguments.tune else "sabotage", measurements, arguments, false_alarms=alarms)


def measure(sabotaged: Sequence[tuple[str, set[str]]], clean: Sequence[set[str]]) -> Iterable[Measurement]:
    """Shares of the defects that are named, and of clean studies that are accused."""
    named = [bool(found & NAMES[kind]) for kind, found in sabotaged]
    for kind in NAMES:
        own = [one for one, (other, _) in zip(named, sabotaged, strict=True) if other == kind]
        yield Measurement(kind, float(np.mean(own)), unit=f"of {len(own)}", note="named")
    yield Measurement("all defects", float(np.mean(named)), unit=f"of {len(named)}", at_least=BAR_NAMED)
    others = float(np.mean([bool(found - NAMES[kind]) for kind, found in sabotaged]))
    yield Measurement("another fault named besides", others, unit=f"of {len(named)}")
    wrong = float(np.mean([bool(found) for found in clean]))
    yield Measurement("clean studies accused", wrong, unit=f"of {len(clean)}", at_most=BAR_FALSE)


def read_page(
    everything: Sequence[Clip], seed: int, folder: Path, kind: str | None = None, place: int = 0
) -> set[str]:
    """Names of the errors and warnings that stand on the page of a study."""
    generator = np.random.default_rng(seed)
    clips = draw_clips(everything, generator)
    draft = Draft(clips, balanced_speaker_folds(clips, num_folds=NUM_FOLDS, seed=seed), seed)
    if kind is not None:
        draft = DEFECTS[kind](draft, generator, folder / str(seed), place // len(NAMES))
    study = write_study(draft)
    page = render_study(study)
    grave = {one["name"] for one in study["findings"] if one["severity"] != "note"}
    return {name for name in grave if f": {name}.</b>" in page}


def draw_clips(everything: Sequence[Clip], generator: np.random.Generator) -> list[Clip]:
    """Some clips of each class of some actors, as many men as women."""
    speakers = sorted({one.speaker for one in everything})
    half = NUM_SPEAKERS // 2
    groups = ([who for who in speakers if int(who) % 2 == rest] for rest in (0, 1))
    chosen = {who for group in groups for who in generator.choice(group, half, replace=False).tolist()}
    clips = []
    for who in sorted(chosen):
        for label in LABELS:
            own = [one for one in everything if (one.speaker, one.label) == (who, label)]
            clips += [own[i] for i in generator.permutation(len(own))[:CLIPS_EACH]]
    return clips


# Defects


def leak_speaker(draft: Draft, generator: np.random.Generator, _: Path, turn: int) -> Draft:
    """A speaker spelled in two ways, recordings under two names, or clips divided at random."""
    who = str(generator.choice(sorted({one.speaker for one in draft.clips})))
    if turn % 3 == 0:
        named = [replace(one, speaker=f"actor-{one.speaker}") for one in draft.clips]
        own = [i for i, one in enumerate(draft.clips) if one.speaker == who]
        for i in own[::2]:
            named[i] = replace(named[i], speaker=f"Actor {who}")
        return replace(
            draft, clips=named, protocol=fold_apart(named, f"actor-{who}", f"Actor {who}", draft.seed)
        )
    if turn % 3 == 1:
        own = [one for one in draft.clips if one.speaker == who][:6]
        other = str(generator.choice(sorted({one.speaker for one in draft.clips} - {who})))
        copied = [*draft.clips, *(replace(one, speaker=other) for one in own)]
        return replace(draft, clips=copied, protocol=fold_apart(copied, who, other, draft.seed))
    random = random_clip_folds(draft.clips, num_folds=NUM_FOLDS, seed=draft.seed)
    return replace(draft, protocol=random)


def fold_apart(clips: Sequence[Clip], one: str, other: str, seed: int) -> Protocol:
    """Folds that test two names in two folds: else nothing leaks, and there is no defect."""
    for attempt in range(seed, seed + 1000):
        protocol = balanced_speaker_folds(clips, num_folds=NUM_FOLDS, seed=attempt)
        if not any({one, other} <= {*fold.test} for fold in protocol.folds):
            return protocol
    raise ValueError(f"seed={seed}: no seed of 1000 divides {one} from {other}; take another")


def choose_on_test(draft: Draft, generator: np.random.Generator, _: Path, turn: int) -> Draft:
    """Scores of settings chosen on the test clips, or validation clips that are copies of test clips."""
    if turn % 2 == 0:
        return replace(draft, rows={"chosen_on": "test"})
    speakers = generator.permutation(sorted({one.speaker for one in draft.clips})).tolist()
    split_of = {who: "test" if place < 3 else "train" for place, who in enumerate(speakers)}
    divided = [replace(one, split=split_of[one.speaker]) for one in draft.clips]
    copies = [replace(one, split="validation") for one in divided if one.split == "test"]
    return replace(draft, clips=[*divided, *copies], protocol=official_split([*divided, *copies]))


def silence_class(draft: Draft, generator: np.random.Generator, _: Path, __: int) -> Draft:
    """A class that is never predicted."""
    return replace(draft, low_label=str(generator.choice(LABELS)))


def add_hum(draft: Draft, generator: np.random.Generator, folder: Path, _: int) -> Draft:
    """Hum in at least 7 of 10 clips of one class."""
    label, mains_hz = str(generator.choice(LABELS)), float(generator.choice([50.0, 60.0]))
    level_db, share = generator.uniform(-65, -45), generator.uniform(0.7, 1.0)
    clips = []
    for place, one in enumerate(draft.clips):
        if one.label == label and generator.random() < share:
            waveform, rate = load_native(one.path)
            time_s = np.arange(len(waveform)) / rate
            phases = generator.uniform(0, 2 * np.pi, 6)
            waves = [np.sin(2 * np.pi * k * mains_hz * time_s + phases[k - 1]) / k for k in range(1, 7)]
            hum = 10 ** (level_db / 20) * np.sum(waves, axis=0)
            path = folder / f"{place}.wav"
            save_audio(path, np.clip(waveform + hum, -1, 1).astype(np.float32), sample_rate=rate)
            one = replace(one, path=path)  # noqa: PLW2901
        clips.append(one)
    return replace(draft, clips=clips)


def worsen_men(draft: Draft, generator: np.random.Generator, _: Path, __: int) -> Draft:
    """Men whose right class is much weaker."""
    return replace(draft, men=float(generator.uniform(0.3, 0.5)))


DEFECTS: Mapping[str, Callable[[Draft, np.random.Generator, Path, int], Draft]] = {
    "leaked speaker": leak_speaker,
    "chosen on test": choose_on_test,
    "class never predicted": silence_class,
    "hum in one class": add_hum,
    "gap between genders": worsen_men,
}


# Content of study.json


def write_study(draft: Draft) -> dict[str, Any]:
    """Content of `study.json` of a draft, with findings and limits."""
    corpus = divided(draft)
    systems = [
        drawn_system(draft, corpus, name, skill) for name, skill in {"large": 3.0, "small": 2.2}.items()
    ]
    rows = [one.row([0.001]) | draft.rows for one in systems]
    study = {
        "name": f"study {draft.seed}",
        "command": "python train.py bench study.yaml",
        "labels": [*LABELS],
    }
    study |= {"seeds": NUM_SEEDS, "corpora": [corpus_row(draft, corpus)], "systems": rows, "comparisons": []}
    study |= {"layers": [], "transfer": [], "inflation": [], "stress": None}
    return study | {"findings": find_faults(study), "limits": limits_of(study)}


def divided(draft: Draft) -> StudyCorpus:
    """The clips as the study divides them."""
    places = {clip: place for place, clip in enumerate(draft.clips)}
    splits = [draft.protocol.split(draft.clips, fold) for fold in range(len(draft.protocol.folds))]
    folds = [{name: [places[one] for one in clips] for name, clips in split.items()} for split in splits]
    clips = [
        {"path": str(one.path), "corpus": "ravdess", "speaker": one.speaker, "label": LABELS.index(one.label)}
        for one in draft.clips
    ]
    record = {**draft.protocol.to_dict(), "hash": draft.protocol.hash}
    return StudyCorpus("ravdess", "speakers", [*LABELS], clips, {}, [], folds, record, {})


def corpus_row(draft: Draft, corpus: StudyCorpus) -> dict[str, Any]:
    """The corpus in `study.json`: the audit of all folds, told to go on, and the conditions."""
    facts = {clip: facts_of(clip.path) for clip in draft.clips}
    splits = (draft.protocol.split(draft.clips, fold) for fold in range(len(draft.protocol.folds)))
    audits = (
        audit_split(one, facts, labels=LABELS, min_duration_s=0.025, may_share_speakers=SPLITS)
        for one in splits
    )
    found = dict.fromkeys(one for audit in audits for one in audit)
    return {
        "corpus": corpus.name,
        "protocol": corpus.protocol,
        "clips": len(draft.clips),
        "speakers": len({one.speaker for one in draft.clips}),
        "audit": {"summary": {}, "findings": group_findings([*found])},
        "conditions": class_conditions(draft.clips),
    }


@cache
def facts_of(path: Path) -> ClipFacts:
    """Facts of a file, measured once."""
    return measure_clip(Clip(path, "any"))


def drawn_system(draft: Draft, corpus: StudyCorpus, name: str, skill: float) -> System:
    """Predictions: noise, and the right class raised by a strength that differs by speaker and class."""
    generator = np.random.default_rng([draft.seed, len(name)])
    positions = np.concatenate([fold["test"] for fold in corpus.folds])
    folds = np.repeat(range(len(corpus.folds)), [len(fold["test"]) for fold in corpus.folds])
    labels = np.array([corpus.clips[i]["label"] for i in positions])
    strength = skill * np.exp(generator.normal(0, 0.2, len(LABELS)))[labels]
    speakers = [corpus.clips[i]["speaker"] for i in positions]
    of_speaker = {who: np.exp(generator.normal(0, 0.2)) for who in sorted({*speakers})}
    strength *= [of_speaker[who] * (draft.men if int(who[-2:]) % 2 else 1.0) for who in speakers]
    shared = generator.standard_normal((len(labels), len(LABELS)))
    own = generator.standard_normal((NUM_SEEDS, len(labels), len(LABELS)))
    logits = math.sqrt(0.8) * shared + math.sqrt(0.2) * own + strength[:, None] * np.eye(len(LABELS))[labels]
    if draft.low_label is not None:
        logits[..., LABELS.index(draft.low_label)] -= 20.0
    cells = (Cell(0, fold, name, 3, "mean") for fold in range(len(corpus.folds)))
    chosen = tuple(Choice(cell, 0, 0.7, (5,) * NUM_SEEDS) for cell in cells)
    tensors = (torch.from_numpy(one) for one in (positions, folds, logits.astype(np.float32)))
    return System(name, corpus, chosen, *tensors)


if __name__ == "__main__":
    main()
