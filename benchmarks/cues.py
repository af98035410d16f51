"""Do acoustic cues say what an edit of the voice does to a classifier?

Clips of RAVDESS end after 3 s; each is explained, towards a neutral clip of its actor, by the fold of a
cross-validation that did not see the actor. Whisper tiny.en (second layer) and the embedded backbone, the
log-odds of the label. Sounds are made once for both, for Whisper with random parameters and for the planted
scorers. Intervals are over actors.

`resynthesis`: is the prediction kept if WORLD takes the clip apart and puts it together again? `edits`: edits
that the explanation has not seen, and their effect as predicted by Shapley values, by leaving one cue out, by
the mean explanation of the class (other actors), by the mean effect of a semitone, dB or the like in the
class (other actors) times the clip's difference, and by the explanation of a model with random parameters.
Half-way: one cue, half of the way. Mixtures: every cue, by random shares of the way. Pairs: two cues, three
quarters of the way. Another reference: one or several cues on the way to the actor's mean voice, where the
values are scaled by how far that is. The planted scorers read one number each: median and range of the pitch
by YIN, level, duration and the power above 1 kHz against that below. `planted`: a cue of a neutral clip is
edited by another tool where there is one (gain, phase vocoder, linear filter; WORLD without this project for
pitch), and the edited clip is explained towards the original, for the class whose log-odds moved most.

The sizes of edits and the settings of the measures were tried on actors 1 to 12 (`--split validation`).
Actors 13 to 24 are reported, with seven explained clips of each, one a class.

    python benchmarks/cues.py --root DIR --backbones whisper-tiny.en   # about 25 minutes on one core
    python benchmarks/cues.py --root DIR --panels resynthesis planted  # the rest as last reported

Results and heads are kept in `--cache-dir`, so that a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import RESULTS, ROOT, SAMPLE_RATE, Measurement, read_arguments, report
from _cues import SideBySide, planted
from real_backbone import CLIP_S, FLAGS
from reliability import cross_validated
from scipy import stats

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.audio.voice import (
    CUES,
    VoiceMeasures,
    analyze_voice,
    differences,
    mean_measures,
    resynthesize,
)
from wavshap_lightning.corpora.catalogue import CORPORA
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.intervals import FEWEST_SPEAKERS
from wavshap_lightning.evaluation.similarity import randomize
from wavshap_lightning.explainer.cues import CueExplanation, explain_cues, reference_clips
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier

WHISPER, EMBEDDED, RANDOM = "Whisper tiny.en", "embedded backbone", ", random parameters"
NEUTRAL, SAD, STRONG = "neutral", "sad", 2.0
LAYER = 2
ACTORS = {"validation": range(1, 13), "test": range(13, 25)}
PANELS = ("resynthesis", "planted", "edits")
NUM_CLIPS, NUM_PLANTED, NUM_AGAIN = 84, 20, 2
NUM_MIXTURES, NUM_OTHER, PAIR_SHARE, FARTHEST = 12, 5, 0.75, 2.0
NUM_RESAMPLES = 2_000
MIXTURES = "mixtures"
LEAD, ALL = "lead over the class average", "all classes"
METHODS = ("Shapley values", "leave-one-out", "class average", "class effect per unit", "random parameters")

BAR_GAP, BAR_MIXTURES, BAR_ABOVE = 1e-4, 0.75, 0.2
BAR_FIRST, BAR_KEPT, BAR_SECONDS = 18, 0.8, 12.0
BAR_SCORER = {"pitch_level": 0.85, "pitch_range": 0.55, "loudness": 0.85, "tempo": 0.85, "spectrum": 0.55}

EXPECTED: Mapping[str, tuple[int, ...]] = {
    "angry": (1, 1, 1, 1, 1),
    "fearful": (1, 0, 0, 1, 0),
    "happy": (1, 1, 1, 1, 1),
    "sad": (-1, -1, -1, -1, -1),
}
"""Direction of each cue against neutral, where Scherer (2003) and Juslin and Laukka (2003) agree; else 0.

Of tempo it is that of the rate, of the spectrum that of the high frequencies. Neither has calm or surprise,
and of disgust both say too little."""

Row = dict[str, Any]
Heads = Mapping[str, Callable[[int, Clip, int], EmotionClassifier]]


def main() -> None:
    """Measure all panels and report."""
    needs = ["root", "cache_dir", "backbones", "clips", "split", "panels"]
    arguments = read_arguments(__doc__, needs=needs, clips=NUM_CLIPS, panels=[*PANELS])
    torch.set_num_threads(1)
    arguments.clips = 2 if arguments.quick else arguments.clips
    arguments.backbones = arguments.backbones or [arguments.root.parent / "whisper-tiny.en"]
    whisper = [f"--model.backbone.name={arguments.backbones[0].absolute()}", f"--model.head.layer={LAYER}"]
    heads = {
        WHISPER: cross_validated("whisper", [*whisper, *FLAGS], arguments),
        EMBEDDED: cross_validated("embedded", [], arguments),
    }
    every = [replace(clip, start_s=0.0, end_s=CLIP_S) for clip in CORPORA["ravdess"].load(arguments.root)]
    actors = ACTORS[arguments.split][: 2 if arguments.quick else None]
    corpus = [clip for clip in every if int(clip.speaker) in actors]
    found = {"resynthesis": resynthesis_panel(corpus, heads, arguments)}
    if "planted" in arguments.panels:
        found["planted"] = planted_panel(corpus, heads, arguments)
    if "edits" not in arguments.panels:
        report_again(found, arguments)
        return
    found["again"] = again_panel(corpus, heads, arguments)
    found["edits"] = edits_panel(corpus, heads, found["resynthesis"], arguments)
    tables = {
        "effects": [*effect_rows(found["edits"])],
        "shares": [*share_rows(found["edits"])],
        "profiles": [*profile_rows(found["edits"], found["resynthesis"])],
    }
    report("cues", [*lines(found, **tables)], arguments, split=arguments.split, **tables)


def report_again(found: Mapping[str, list[Row]], arguments: argparse.Namespace) -> None:
    """Report panels that were measured, and the rest as in the last report."""
    last = json.loads((RESULTS / f"cues{'-quick' if arguments.quick else ''}.json").read_text())
    fresh = [*planted_lines(found.get("planted", []))] if "planted" in found else []
    fresh += [one for name in (WHISPER, EMBEDDED) for one in resynthesis_lines(name, found["resynthesis"])]
    new = {one.name: one for one in fresh}
    fields = ({key: value for key, value in one.items() if key != "missed"} for one in last["measurements"])
    shown = [new.get(one["name"], Measurement(**one)) for one in fields]
    tables = {name: last[name] for name in ("effects", "shares", "profiles")}
    report("cues", shown, arguments, split=arguments.split, measured_again=[*found], **tables)


# Clips


def balanced(corpus: Sequence[Clip], per_actor: int, *, labels: Sequence[str]) -> list[Clip]:
    """As many clips of every actor, the classes in turn, half of each strong where there are strong ones."""
    generator, chosen, place = np.random.default_rng(0), [], 0
    for actor in sorted({clip.speaker for clip in corpus}):
        for _ in range(per_actor):
            label, strength = labels[place % len(labels)], 1.0 + place // len(labels) % 2
            place += 1
            own = [clip for clip in corpus if (clip.speaker, clip.label) == (actor, label)]
            of_strength = [clip for clip in own if dict(clip.values)["intensity"] == strength]
            chosen.append((of_strength or own)[generator.integers(len(of_strength or own))])
    return chosen


def by_turns(corpus: Sequence[Clip]) -> list[Clip]:
    """A clip of each actor and class but neutral: one of each actor, the classes in turn, then another."""
    labels = [label for label in labels_of(corpus) if label != NEUTRAL]
    chosen, size = balanced(corpus, len(labels), labels=labels), len(labels)
    actors = range(len(chosen) // size)
    return [chosen[actor * size + (actor + turn) % size] for turn in range(size) for actor in actors]


def read(clip: Clip) -> np.ndarray:
    """Samples of a clip."""
    return load_audio(clip.path, sample_rate=SAMPLE_RATE, start_s=clip.start_s, end_s=clip.end_s)


def labels_of(corpus: Sequence[Clip]) -> list[str]:
    """Classes in alphabetical order."""
    return sorted({clip.label for clip in corpus})


# Panels


def resynthesis_panel(corpus: Sequence[Clip], heads: Heads, arguments: argparse.Namespace) -> list[Row]:
    """Cues of a clip of each actor and class, and its predictions before and after resynthesis."""

    def measure(clip: Clip) -> Row:
        voice = analyze_voice(read(clip), SAMPLE_RATE)
        sounds = read(clip), resynthesize(voice, voice.measures)
        models = {name: of(0, clip, 0) for name, of in heads.items()}
        values = [SideBySide(models).values(sound) for sound in sounds]
        predicted = {
            name: [max(one.labels, key=lambda label: row[f"{name}: {label}"]) for row in values]
            for name, one in models.items()
        }
        return {"measures": asdict(voice.measures), "predicted": predicted}

    labels = labels_of(corpus)
    clips = balanced(corpus, len(labels), labels=labels)
    return [kept_row(arguments, "resynthesis", clip, measure) for clip in clips]


def edits_panel(
    corpus: Sequence[Clip], heads: Heads, measured: Sequence[Row], arguments: argparse.Namespace
) -> list[Row]:
    """Explanations of each clip, by score, and what held-out edits change."""
    voices: dict[str, list[VoiceMeasures]] = {}
    for row in measured:
        voices.setdefault(row["speaker"], []).append(VoiceMeasures(**row["measures"]))

    def measure(clip: Clip) -> Row:
        models = {name: of(0, clip, 0) for name, of in heads.items()}
        models[WHISPER + RANDOM] = randomize(models[WHISPER], "all", 0)
        scores = SideBySide(models, CUES)
        (reference, *_) = reference_clips(clip, corpus, NEUTRAL)
        targets = [*(f"{name}: {clip.label}" for name in models), *CUES]
        explained = explain_cues(scores, clip, reference=reference, target=targets[0], renderings=2)
        games = {name: game(replace(explained, target=name)) for name in targets}
        ends = clip, reference
        own, neutral = (analyze_voice(read(one), SAMPLE_RATE) for one in ends)
        only_trained = SideBySide({name: models[name] for name in heads})
        before = only_trained.values(resynthesize(own, neutral.measures))
        edits = []
        plans = held_out(own.measures, neutral.measures, mean_measures(voices[clip.speaker]), clip.name)
        for kind, towards, amounts, shares in plans:
            after = only_trained.values(resynthesize(own, towards, amounts))
            changes = {name: after[name] - before[name] for name in targets[: len(heads)]}
            edits.append({"kind": kind, "shares": shares, "changes": changes})
        return {"differences": differences(own.measures, neutral.measures), "games": games, "edits": edits}

    clips = by_turns(corpus)[: arguments.clips]
    return [kept_row(arguments, "edits", clip, measure) for clip in clips]


def game(found: CueExplanation) -> Row:
    """Numbers of an explanation; 0 for cues that clip and reference share."""
    difference = found.score - found.reference_score
    shared = dict.fromkeys(differences(found.voice.measures, found.reference_measures), 0.0)
    return {
        "values": shared | {one.cue: one.value for one in found.cues},
        "leave_one_out": shared | {one.cue: one.leave_one_out for one in found.cues},
        "half_widths": {one.cue: one.half_width for one in found.cues},
        "resolved": [one.cue for one in found.cues if one.resolved],
        "difference": difference,
        "resynthesis": found.resynthesis,
        "gap": abs(sum(found.rows.values()) - difference),
    }


def held_out(
    own: VoiceMeasures, neutral: VoiceMeasures, other: VoiceMeasures, name: str
) -> Iterator[tuple[str, VoiceMeasures, Row, Row]]:
    """Edits by kind: the reference, how far each cue moves, and how far that is on the way to neutral."""
    generator = np.random.default_rng(int(sha256(name.encode()).hexdigest()[:8], 16))
    has = [*differences(own, neutral)]
    plans = [("half-way", {cue: 0.5}) for cue in has]
    plans += [
        (MIXTURES, dict(zip(has, row, strict=True))) for row in random_shares(generator, NUM_MIXTURES, has)
    ]
    plans += [("pairs", dict.fromkeys(pair, PAIR_SHARE)) for pair in combinations(has, 2)]
    for kind, amounts in plans:
        yield kind, neutral, amounts, amounts
    scales = {cue: along(own, neutral, other, cue) for cue in has}
    plans = [{cue: 1.0} for cue in has]
    plans += [dict(zip(has, row, strict=True)) for row in random_shares(generator, NUM_OTHER, has)]
    for amounts in plans:
        yield "another reference", other, amounts, {cue: far * scales[cue] for cue, far in amounts.items()}


def random_shares(generator: np.random.Generator, count: int, cues: Sequence[str]) -> list[list[float]]:
    """Of each cue in each of some edits, even from 0 to 1."""
    return generator.random((count, len(cues))).tolist()


def along(own: VoiceMeasures, neutral: VoiceMeasures, other: VoiceMeasures, cue: str) -> float:
    """How far the way to another reference leads along the way to neutral, which is 1."""
    start, end, instead = (
        np.atleast_1d(np.log(one.tempo) if cue == "tempo" else getattr(one, cue)).astype(float)
        for one in (own, neutral, other)
    )
    way = end - start
    return float(np.clip(way @ (instead - start) / max(way @ way, 1e-9), -FARTHEST, FARTHEST))


def again_panel(corpus: Sequence[Clip], heads: Heads, arguments: argparse.Namespace) -> list[Row]:
    """The classifiers as a user explains them: sum, seconds of one thread, and the bytes of a second run."""

    def measure(clip: Clip) -> Row:
        (reference, *_), found = reference_clips(clip, corpus, NEUTRAL), {}
        for name, of in heads.items():
            classifier, seconds, texts = of(0, clip, 0), [], []
            for _ in range(2):
                start = time.process_time()
                explained = explain_cues(classifier, clip, reference=reference)
                seconds.append(time.process_time() - start)
                texts.append(json.dumps(explained.to_dict()))
            same = texts[0] == texts[1]
            found[name] = {"gap": game(explained)["gap"], "seconds": min(seconds), "same": same}
        return found

    return [kept_row(arguments, "again", clip, measure) for clip in by_turns(corpus)[:NUM_AGAIN]]


def planted_panel(corpus: Sequence[Clip], heads: Heads, arguments: argparse.Namespace) -> list[Row]:
    """The strongest cue of neutral clips of which one cue was edited."""
    neutral = [clip for clip in corpus if clip.label == NEUTRAL]
    clips = sorted(neutral, key=lambda clip: (clip.path.stem[:-3], clip.speaker))
    count = 2 if arguments.quick else NUM_PLANTED
    clips = [clips[place] for place in np.linspace(0, len(clips) - 1, count).round().astype(int)]
    rows = []
    for index, clip in enumerate(clips):
        for place, cue in enumerate(CUES):
            way = 1 if (index + place) % 2 else -1

            def measure(clip: Clip, cue: str = cue, way: int = way) -> Row:
                classifier, original = heads[WHISPER](0, clip, 0), read(clip)
                edited = planted(original, cue, way)
                scores = SideBySide({"": classifier})
                before, after = (list(scores.values(sound).values()) for sound in (original, edited))
                moved = int(np.argmax(np.abs(np.subtract(after, before))))
                target = classifier.labels[moved]
                values = game(
                    explain_cues(classifier, edited, reference=original, target=target, renderings=2)
                )["values"]
                change = after[moved] - before[moved]
                return {"cue": cue, "way": way, "target": target, "change": change, "values": values}

            rows.append(kept_row(arguments, f"planted {cue} {way}", clip, measure))
    return rows


# What is kept


def kept_row(arguments: argparse.Namespace, what: str, clip: Clip, measure: Callable[[Clip], Row]) -> Row:
    """Row of a clip, measured unless it was before by the same code."""
    key = sha256(repr((what, clip.key, own_code())).encode()).hexdigest()[:16]
    path = arguments.cache_dir / "cues" / f"{key}.json"
    if not path.is_file():
        start = time.process_time()
        row = measure(clip)
        print(f"{what}, {clip.name}: {time.process_time() - start:.1f} s", flush=True)
        about = {"clip": clip.name, "speaker": clip.speaker, "label": clip.label, **dict(clip.values)}
        write_atomically(path, json.dumps({**about, **row}).encode())
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def own_code() -> str:
    """Of the code of cues, their edits and their explanation."""
    package = ROOT / "wavshap_lightning"
    paths = (package / "audio/voice.py", package / "explainer/cues.py", Path(__file__).with_name("_cues.py"))
    return sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


# What follows


def over_actors(rows: Sequence[Row], statistic: Callable[[Sequence[Row]], float]) -> Row:
    """A number with its 95 % interval, from resampled actors; without it for fewer than five.

    Percentiles are widened for few actors (Hesterberg 2015), as in `evaluation.intervals`.
    """
    actors: dict[str, list[Row]] = {}
    for row in rows:
        actors.setdefault(row["speaker"], []).append(row)
    groups, count = list(actors.values()), len(actors)
    if count < FEWEST_SPEAKERS:
        return {"value": float(statistic(rows)), "low": None, "high": None}
    generator = np.random.default_rng(0)
    drawn = generator.integers(count, size=(NUM_RESAMPLES, count))
    values = [statistic([row for place in places for row in groups[place]]) for places in drawn.tolist()]
    tail = stats.norm.cdf(stats.t.ppf(0.025, count - 1) * np.sqrt(count / (count - 1)))
    low, high = np.nanquantile(values, [tail, 1 - tail]).tolist()
    return {"value": float(statistic(rows)), "low": low, "high": high}


def correlations(rows: Sequence[Row]) -> Iterator[Row]:
    """Spearman's correlation of predicted and actual changes, by clip, classifier, kind and method."""
    for row in rows:
        others = [
            one for one in rows if (one["label"], one["speaker"] == row["speaker"]) == (row["label"], False)
        ]
        for name in (WHISPER, EMBEDDED):
            target = f"{name}: {row['label']}"
            weights = dict(zip(METHODS, predictors(row, others, target), strict=True))
            for kind in dict.fromkeys(edit["kind"] for edit in row["edits"]):
                edits = [edit for edit in row["edits"] if edit["kind"] == kind]
                actual = [edit["changes"][target] for edit in edits]
                found = {
                    method: rank_correlation([-total(effects, edit["shares"]) for edit in edits], actual)
                    for method, effects in weights.items()
                }
                yield {"speaker": row["speaker"], "classifier": name, "kind": kind, **found}


def predictors(row: Row, others: Sequence[Row], target: str) -> list[Mapping[str, float]]:
    """Effect of each cue as each of the methods has it; NaN where the class has no other clip."""
    own, games = row["games"][target], [one["games"][target]["values"] for one in others]
    mean = {cue: statistics.fmean(one[cue] for one in games) if games else np.nan for cue in own["values"]}
    per_unit = {
        cue: slope([(moved(one, cue), one["games"][target]["values"][cue]) for one in others])
        * moved(row, cue)
        for cue in own["values"]
    }
    random = row["games"][f"{WHISPER}{RANDOM}: {row['label']}"]["values"]
    return [own["values"], own["leave_one_out"], mean, per_unit, random]


def moved(row: Row, cue: str) -> float:
    """Difference of a cue from the reference; of tempo that of the rate, on a log scale."""
    difference = row["differences"][cue]
    return float(-np.log(difference)) if cue == "tempo" else float(difference)


def slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Of the line through zero."""
    squares = sum(x * x for x, _ in pairs)
    return sum(x * y for x, y in pairs) / squares if squares else float("nan")


def total(effects: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """Effect of cues that are moved by shares of the way."""
    return sum(share * effects[cue] for cue, share in shares.items())


def rank_correlation(predicted: Sequence[float], actual: Sequence[float]) -> float:
    """Spearman's correlation; NaN where one of them is constant or not known."""
    constant = len({*predicted}) < 2 or len({*actual}) < 2 or not np.isfinite(predicted).all()
    return float("nan") if constant else float(stats.spearmanr(predicted, actual).statistic)


def profile_rows(rows: Sequence[Row], measured: Sequence[Row]) -> Iterator[Row]:
    """Difference from neutral, Shapley value, effect per unit and what is expected, by class and cue."""
    for label in (*labels_in(rows), f"{SAD}, normal", f"{SAD}, strong"):
        of = [row for row in rows if is_of(row, label)]
        apart = [*from_neutral(measured, label)]
        for place, cue in enumerate(CUES):
            expected = EXPECTED.get(label.partition(",")[0], (0,) * len(CUES))[place]
            way = partial(moved, cue=cue)
            found = {"label": label, "cue": cue, "clips": len(of), "measured": len(apart)}
            found |= {"difference": over_actors(apart, partial(mean_of, value=way)), "expected": expected}
            for name in (WHISPER, EMBEDDED):
                target = f"{name}: {label.partition(',')[0]}"

                value = partial(value_of, target=target, cue=cue)
                found[f"{name}, value"] = over_actors(of, partial(mean_of, value=value))
                found[f"{name}, per unit"] = over_actors(of, partial(effect_per_unit, way=way, value=value))
            yield found


def value_of(row: Row, target: str, cue: str) -> float:
    """Shapley value of a cue."""
    return float(row["games"][target]["values"][cue])


def effect_per_unit(rows: Sequence[Row], way: Callable[[Row], float], value: Callable[[Row], float]) -> float:
    """Slope of the value over the difference."""
    return slope([(way(row), value(row)) for row in rows])


def labels_in(rows: Sequence[Row]) -> list[str]:
    """Classes but neutral."""
    return sorted({row["label"] for row in rows} - {NEUTRAL})


def is_of(row: Row, label: str) -> bool:
    """Whether a row is of a class, or of its strong or normal half."""
    name, _, half = label.partition(", ")
    return row["label"] == name and (not half or (row["intensity"] == STRONG) == (half == "strong"))


def from_neutral(measured: Sequence[Row], label: str) -> Iterator[Row]:
    """Differences of the clips of a class from the neutral clip of the same actor."""
    neutral = {row["speaker"]: row["measures"] for row in measured if row["label"] == NEUTRAL}
    for row in measured:
        if is_of(row, label):
            both = (VoiceMeasures(**one) for one in (row["measures"], neutral[row["speaker"]]))
            yield {"speaker": row["speaker"], "differences": differences(*both)}


def mean_of(rows: Sequence[Row], value: Callable[[Row], float]) -> float:
    """Mean over rows; NaN without any."""
    return statistics.fmean(map(value, rows)) if rows else float("nan")


def effect_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """Median correlation of each classifier, kind of edit and method, and the lead over the class average."""
    found = [*correlations(rows)]
    for name in (WHISPER, EMBEDDED):
        for kind in dict.fromkeys(row["kind"] for row in found):
            of = [row for row in found if (row["classifier"], row["kind"]) == (name, kind)]
            medians = {method: median_of(method) for method in METHODS}
            own, average = medians[METHODS[0]], medians["class average"]
            for method, statistic in (medians | {LEAD: lambda some: own(some) - average(some)}).items():  # noqa: B023 - called at once
                yield {
                    "classifier": name,
                    "kind": kind,
                    "method": method,
                    "clips": len(of),
                    **over_actors(of, statistic),
                }


def median_of(name: str) -> Callable[[Sequence[Row]], float]:
    """Median over rows of a number, where it is known."""
    return lambda rows: float(np.nanmedian([row[name] for row in rows]))


def share_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """Share of the difference from the neutral clip, less that of resynthesis, that the cues explain.

    A class is left out whose difference may be zero: its share would be anything.
    """
    for name in (WHISPER, EMBEDDED):
        for label in (ALL, *labels_in(rows)):
            of = [row for row in rows if label in (ALL, row["label"])]
            whole = over_actors(of, partial(to_explain, name=name))
            if whole["low"] is None or whole["low"] > 0:
                share = over_actors(of, partial(explained, name=name))
                yield {"classifier": name, "label": label, "clips": len(of), **share}


def explained(rows: Sequence[Row], name: str) -> float:
    """Sum of all cues of all clips, over what there was to explain."""
    games = [row["games"][f"{name}: {row['label']}"] for row in rows]
    return sum(sum(one["values"].values()) for one in games) / to_explain(rows, name)


def to_explain(rows: Sequence[Row], name: str) -> float:
    """Sum of all differences from the neutral clips, less those of resynthesis."""
    games = [row["games"][f"{name}: {row['label']}"] for row in rows]
    return float(sum(one["difference"] - one["resynthesis"] for one in games))


# Lines


def lines(
    found: Mapping[str, Sequence[Row]], effects: Sequence[Row], shares: Sequence[Row], profiles: Sequence[Row]
) -> Iterator[Measurement]:
    """All that is claimed, and what stands beside it."""
    yield from again_lines(found["edits"], found["again"])
    yield from effect_lines(effects)
    yield from planted_lines(found["planted"])
    yield from scorer_lines(found["edits"])
    for name in (WHISPER, EMBEDDED):
        yield from resynthesis_lines(name, found["resynthesis"])
    for row in shares:
        yield line(f"{row['classifier']}, {row['label']}: share of the way to neutral explained", row)
    for name in ("difference", WHISPER, EMBEDDED):
        yield agreement_line(name, profiles)


def line(name: str, row: Row, **fields: Any) -> Measurement:  # noqa: ANN401 - of a measurement
    """A number with its interval."""
    note = f"{row['clips']} clips" + "; range: 95 % interval over actors" * (row["low"] is not None)
    return Measurement(name, row["value"], row["low"], row["high"], note=note, **fields)


def again_lines(edits: Sequence[Row], again: Sequence[Row]) -> Iterator[Measurement]:
    """Sums, reruns and seconds."""
    runs = {name: [row[name] for row in again] for name in (WHISPER, EMBEDDED)}
    gaps = [one["gap"] for row in edits for one in row["games"].values()]
    gaps += [one["gap"] for some in runs.values() for one in some]
    yield Measurement(
        "largest error of the sum", max(gaps), at_most=BAR_GAP, note=f"{len(gaps)} explanations"
    )
    same = [one["same"] for some in runs.values() for one in some]
    yield Measurement(
        "reruns with the same bytes", statistics.fmean(same), at_least=1, note=f"of {len(same)}"
    )
    for name, some in runs.items():
        seconds = [one["seconds"] for one in some]
        ends = statistics.median(seconds), min(seconds), max(seconds)
        note = f"processor time of one thread, the faster of two runs; {len(seconds)} clips"
        yield Measurement(
            f"{name}: seconds for a clip of 3 s", *ends, unit="s", at_most=BAR_SECONDS, note=note
        )


def effect_lines(effects: Sequence[Row]) -> Iterator[Measurement]:
    """Correlations and leads, with the bars of mixtures."""
    bars = {METHODS[0]: BAR_MIXTURES, LEAD: BAR_ABOVE}
    for row in effects:
        is_mixture, method = row["kind"] == MIXTURES, row["method"]
        what = f"{row['classifier']}, {row['kind']}: Spearman within clips, {method}"
        yield line(what, row, at_least=bars.get(method) if is_mixture else None)
        if is_mixture and method == LEAD and row["low"] is not None:
            yield Measurement(f"{what}, lower end", row["low"], at_least=0.0)


def planted_lines(rows: Sequence[Row]) -> Iterator[Measurement]:
    """How often the edited cue is the strongest."""
    for cue in CUES:
        of = [row for row in rows if row["cue"] == cue]
        others = [strongest(row["values"]) for row in of if strongest(row["values"]) != cue]
        note = f"{WHISPER}; of {len(of)} neutral clips; instead: {', '.join(others) or 'none'}"
        bar = BAR_FIRST * len(of) / NUM_PLANTED
        yield Measurement(
            f"planted edit of {cue}: found first", len(of) - len(others), at_least=bar, note=note
        )


def strongest(values: Mapping[str, float]) -> str:
    """The cue with the largest magnitude."""
    return max(values, key=lambda cue: abs(values[cue]))


def scorer_lines(rows: Sequence[Row]) -> Iterator[Measurement]:
    """Share of the magnitude that explanations of planted scorers give to the cue that is read."""
    for cue in CUES:

        def share(some: Sequence[Row], cue: str = cue) -> float:
            values = [row["games"][cue]["values"] for row in some]
            return sum(abs(one[cue]) for one in values) / sum(abs(v) for one in values for v in one.values())

        name = f"planted scorer of {cue}: share of {cue}"
        yield line(name, {"clips": len(rows), **over_actors(rows, share)}, at_least=BAR_SCORER[cue])


def resynthesis_lines(name: str, rows: Sequence[Row]) -> Iterator[Measurement]:
    """Predictions that resynthesis keeps, and recall before and after."""

    def is_kept(some: Sequence[Row]) -> float:
        return mean_of(some, lambda row: float(len({*row["predicted"][name]}) == 1))

    found = {"clips": len(rows), **over_actors(rows, is_kept)}
    yield line(f"{name}: predictions kept by resynthesis", found, at_least=BAR_KEPT)
    for place, when in enumerate(("before", "after")):

        def recall(some: Sequence[Row], place: int = place) -> float:
            hits: dict[str, list[bool]] = {}
            for row in some:
                hits.setdefault(row["label"], []).append(row["predicted"][name][place] == row["label"])
            return statistics.fmean(statistics.fmean(one) for one in hits.values())

        found = {"clips": len(rows), **over_actors(rows, recall)}
        yield line(f"{name}: UAR {when} resynthesis", found)


def agreement_line(name: str, profiles: Sequence[Row]) -> Measurement:
    """How often a direction is that of the literature, of those whose interval excludes zero."""
    key = name if name == "difference" else f"{name}, per unit"
    known = [row for row in profiles if row["expected"] and "," not in row["label"]]
    sure = [row for row in known if row[key]["low"] is not None and row[key]["low"] * row[key]["high"] > 0]
    right = [row for row in sure if row[key]["value"] * row["expected"] > 0]
    wrong = [f"{row['label']} {row['cue']}" for row in sure if row not in right]
    what = "voices differ from neutral" if name == "difference" else f"{name} reads cues"
    note = f"of {len(sure)} whose interval excludes zero, of {len(known)}; not: {', '.join(wrong) or 'none'}"
    share = len(right) / len(sure) if sure else None
    return Measurement(f"{what} as Scherer (2003) and Juslin and Laukka (2003) say", share, note=note)


if __name__ == "__main__":
    main()
