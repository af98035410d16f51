"""How many of the strongest frames does a new random seed replace, and what does it cost that it does not?

Each clip is explained twice by each method, with two seeds that decide all of chance, the baselines
included. *Changed* is the share of the strongest tenth of the frames (20 ms), by magnitude, that the
other seed does not have there. Seconds are the median over clips of the second call, the methods of a clip
one after the other. Clips of RAVDESS end after 3 s. Intervals are over speakers. GradientSHAP of all
libraries takes its baselines from noise at the level of the clip, as ours does for a clip alone, 50 clips of
it for a seed; ours *with other clips* has up to 32 clips of the corpus, the same for both seeds, and *with
another choice of clips* 32 others for the second. All else has the default of its library. LIME and Kernel
SHAP remove spans of 100 ms, so that a span counts five times.

`methods`: Whisper tiny.en (second layer) and the embedded backbone on RAVDESS, each actor explained by
the fold that did not see it, and the demo on speakers of a corpus of its own; the log-odds of the
predicted class. `evidence`: cues planted in RAVDESS, heads on all layers of Whisper in turn, clips that
are classified rightly, of the tested actors (of those who chose the epoch with `--split validation`, to
try things out). `heads`: the strongest frames of a head against those of a head from another seed of its
training, and of another fold (which saw the actor), with other draws. `base`: seconds of a call at Base
geometry.

Seconds to 90 % survival lie between those of two numbers of draws, by powers; where the most that were
tried do not reach it, their seconds are a lower bound. Seconds to an error of 10 %: of ours those of the
fewest draws tried, against 256 draws; of Captum's `c / sqrt(n)`, where half the squared distance of two
seeds over their product gives `c` without a reference. Nothing was chosen on the clips that are
reported.

    python benchmarks/reliability.py --root DIR --backbones whisper-tiny.en   # about 50 minutes on two cores
    python benchmarks/reliability.py --root DIR --panels heads                # the rest as last reported
    python docs/noise_figure.py                                               # draws the figure

Explanations and heads are kept in `--cache-dir`, so that a run that was ended goes on. Training comes on
top: two cross-validations each of two classifiers, the demo twice, and ten heads on planted cues, unless
`--planted` has them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import RESULTS, Measurement, read_arguments, report, time_interleaved
from _methods import (
    CAPTUM,
    METHODS,
    OTHERS,
    OURS,
    REFERENCE,
    SILENCE,
    SMOOTH,
    USUAL_MANY,
    Case,
    Map,
    open_case,
    ours,
)
from _problems import DEFAULTS, base_pair, captum_call
from _runs import code_key, demo_heads, kept_run, other_speakers_clips, planted_whisper
from ravdess_epochs import ravdess_flags
from real_backbone import CLIP_S, FLAGS
from torch import Tensor

from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.attribution.reliability import STRONGEST_SHARE
from wavshap_lightning.attribution.views.frames import top
from wavshap_lightning.corpora.catalogue import CORPORA
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.protocols import RAVDESS_6_FOLDS
from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.evaluation.localization import inside_spans, roc_auc
from wavshap_lightning.explainer.defaults import REFERENCE_DRAWS
from wavshap_lightning.explainer.settings import DEFAULT_DRAWS
from wavshap_lightning.explainer.stage_attribution import fingerprint
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier

WHISPER, EMBEDDED, DEMO = "Whisper tiny.en, RAVDESS", "embedded backbone, RAVDESS", "demo, planted speech"
MAPS = ("attribution", "explainer", "models", "audio")
LAYER, NUM_CLIPS = 2, 48
OTHER_SEED = 1
STABLE, RIGHT, GOAL, GOAL_SURVIVAL = 0.8, 0.75, 0.1, 0.9
LEAST_CHANGED = 0.001
BAR_SURVIVAL, BAR_RACE = 0.95, 10.0
BAR_TENTH = {WHISPER: 50.0, EMBEDDED: 150.0}
# Of each method, what the panel of planted evidence takes, and for how many clips.
EVIDENCE = {
    (OURS, DEFAULT_DRAWS): 16,
    (OTHERS, REFERENCE_DRAWS): 16,
    ("ours, frames", 64): 16,
    ("ours, waveform", 64): 16,
    (CAPTUM, 5): 16,
    (CAPTUM, USUAL_MANY): 16,
    ("GradientExplainer (SHAP)", 200): 8,
    (SILENCE, 50): 16,
    ("integrated gradients from noise (Captum)", 50): 16,
    (SMOOTH, 50): 16,
    ("LIME (Captum)", 25): 16,
    ("LIME (lime)", 1000): 8,
    ("Kernel SHAP (Captum)", 25): 16,
    ("KernelExplainer (SHAP)", 2100): 4,
}
HEADS = ((OURS, DEFAULT_DRAWS), (CAPTUM, USUAL_MANY))
NUM_HEADS_CLIPS = 12

Row = dict[str, Any]
Found = Mapping[str, Sequence[Row]]
Rows = dict[tuple[str, int], Row]


def main() -> None:
    """Measure the panels that are asked for, take the others from the last report, and report."""
    needs = ["root", "cache_dir", "backbones", "repeats", "clips", "planted", "panels", "split"]
    arguments = read_arguments(__doc__, needs=needs, clips=NUM_CLIPS, panels=[*PANELS])
    arguments.backbones = arguments.backbones or [arguments.root.parent / "whisper-tiny.en"]
    arguments.clips = 2 if arguments.quick else arguments.clips
    last = RESULTS / f"reliability{'-quick' if arguments.quick else ''}.json"
    found = json.loads(last.read_text()) if last.is_file() else {}
    found = {name: found.get(name, []) for name in PANELS}
    for name, measure in PANELS.items():
        if name in arguments.panels:
            found[name] = measure(arguments, found)
    taken = {"clips": arguments.clips, "split": arguments.split}
    report("reliability", [*lines(found)], arguments, captum=DEFAULTS, **taken, **found)


# Classifiers and clips


@dataclass(frozen=True)
class Heads:
    """A classifier, as it was trained several times.

    Args:
        of: From the number of a seed, a clip and a shift of the fold to the head that explains it. Without a
            shift it is the one that did not see the clip's speaker.
        clips: One of each speaker, then another.
        at_hand: All clips of the corpus, of which some serve as baselines.
        has_folds: Whether the fold can be shifted.
    """

    of: Callable[[int, Clip, int], EmotionClassifier]
    clips: Sequence[Clip]
    at_hand: Sequence[Clip]
    has_folds: bool = True


def all_heads(arguments: argparse.Namespace) -> dict[str, Heads]:
    """The three classifiers by name."""
    whisper = [
        f"--model.backbone.name={arguments.backbones[0].absolute()}",
        f"--model.head.layer={LAYER}",
        *FLAGS,
    ]
    ravdess = [replace(clip, start_s=0.0, end_s=CLIP_S) for clip in CORPORA["ravdess"].load(arguments.root)]
    clips = by_turns(ravdess, arguments.clips)

    @cache
    def demo(seed: int) -> EmotionClassifier:
        return demo_heads(arguments.cache_dir, [seed])[0]

    planted = other_speakers_clips(arguments.cache_dir, 10**6)
    return {
        WHISPER: Heads(cross_validated("whisper", whisper, arguments), clips, ravdess),
        EMBEDDED: Heads(cross_validated("embedded", [], arguments), clips, ravdess),
        DEMO: Heads(
            lambda seed, _clip, _shift: demo(seed),
            by_turns(planted, arguments.clips),
            planted,
            has_folds=False,
        ),
    }


def cross_validated(
    name: str, flags: Sequence[str], arguments: argparse.Namespace
) -> Callable[[int, Clip, int], EmotionClassifier]:
    """The folds of a cross-validation through `train.py`, trained when the first is asked for."""
    usual = ravdess_flags(arguments.root, arguments.cache_dir, quick=arguments.quick, command="cv")
    fixed = [*usual, *flags, "--data.validation=false", "--run.wandb=false"]
    fixed += ["--trainer.max_epochs=1"] if arguments.quick else []

    @cache
    def fold(seed: int, number: int) -> EmotionClassifier:
        folder = kept_run(arguments.cache_dir, f"{name}-{seed}", [*fixed, f"--seed_everything={seed}"])
        (path,) = folder.glob(f"runs/**/fold_{number}/checkpoints/best.ckpt")
        return load_classifier(path)

    def head_of(seed: int, clip: Clip, shift: int) -> EmotionClassifier:
        folds = RAVDESS_6_FOLDS.folds
        (tested,) = (number for number, one in enumerate(folds) if clip.speaker in one.test)
        return fold(seed, (tested + shift) % len(folds))

    return head_of


def by_turns(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Clips in a random order in which every speaker has one before any has another."""
    order = np.random.default_rng(0).permutation(len(clips)).tolist()
    turns: dict[str, list[Clip]] = {}
    for index in order:
        turns.setdefault(clips[index].speaker, []).append(clips[index])
    most = max(map(len, turns.values()))
    return [own[turn] for turn in range(most) for own in turns.values() if turn < len(own)][:count]


# Panels


def methods_panel(arguments: argparse.Namespace, _: Found) -> list[Row]:
    """A row for each classifier, method and number of draws."""
    plan = {(name, draws): most for name, one in METHODS.items() for draws, most in one.clips.items()}
    return [
        {"classifier": title, **row}
        for title, heads in all_heads(arguments).items()
        for row in rows_of(plan, cases_of(heads), arguments)
    ]


def cases_of(heads: Heads) -> Iterator[Case]:
    """Each clip with the head that did not see its speaker."""
    for clip in heads.clips:
        yield open_case(clip, heads.of(0, clip, 0), others=heads.at_hand)


def evidence_panel(arguments: argparse.Namespace, _: Found) -> list[Row]:
    """A row for each method: how often it is stable and right, stable and wrong, and unstable."""
    folder = arguments.planted or arguments.cache_dir / "planted-whisper"
    clips, heads = planted_whisper(folder, arguments.root, arguments.backbones[0])
    at_hand = [clip for clip in clips if clip.split == arguments.split]
    clips = by_turns([clip for clip in at_hand if clip.evidence], 10**6)
    classifiers = [load_classifier(path) for path in heads.values()]
    count = min(arguments.clips, max(EVIDENCE.values()))
    return rows_of(EVIDENCE, right_cases(clips, classifiers, count, at_hand), arguments)


def right_cases(
    clips: Sequence[Clip], heads: Sequence[EmotionClassifier], count: int, at_hand: Sequence[Clip]
) -> Iterator[Case]:
    """Clips, with the heads in turn, whose label is what the head predicts."""
    found = 0
    for clip in clips:
        if found == count:
            return
        case = open_case(clip, heads[found % len(heads)], others=at_hand)
        if case.label == clip.label:
            found += 1
            yield case


def rows_of(
    plan: Mapping[tuple[str, int], int], cases: Iterator[Case], arguments: argparse.Namespace
) -> list[Row]:
    """A row for each method and number of draws, over the first of the cases."""
    if arguments.quick:
        plan = {key: most for key, most in plan.items() if key[1] <= DEFAULT_DRAWS}
    found: dict[tuple[str, int], list[Row]] = {key: [] for key in plan}
    for index, case in enumerate(cases):
        due = [key for key, most in plan.items() if index < most]
        print(f"{case.clip.name}: {len(due)} maps, twice", flush=True)
        measured = kept(arguments.cache_dir, [case_key(case), str(due)], partial(measure_case, case, due))
        for key, one in zip(due, measured, strict=True):
            maps = torch.tensor(one["maps"], dtype=torch.float64)
            found[key].append({**one, "speaker": case.clip.speaker, "maps": maps})
    reference = [one["maps"].mean(0) for one in found.get((OURS, REFERENCE), [])]
    return [_row(*key, ones, reference) for key, ones in found.items() if ones]


def measure_case(case: Case, due: Sequence[tuple[str, int]]) -> list[Row]:
    """Maps of two seeds by each method, the seconds of the second, and how well they find the evidence."""
    maps: list[list[Map]] = [[] for _ in due]

    def explain(place: int) -> None:
        name, draws = due[place]
        maps[place].append(METHODS[name].explain(case, draws, len(maps[place])))

    # The call before the clock starts is the first seed.
    seconds = time_interleaved({str(place): partial(explain, place) for place in range(len(due))}, 1)
    return [
        {
            "seconds": seconds[str(place)][0],
            "maps": [one.values.tolist() for one in pair],
            "auc": [_auc(one, case.clip) for one in pair if case.clip.evidence],
        }
        for place, pair in enumerate(maps)
    ]


def _auc(found: Map, clip: Clip) -> float:
    return roc_auc(found.values, inside_spans(found.centers_s, clip.evidence))


def _row(name: str, draws: int, ones: Sequence[Row], reference: Sequence[Tensor]) -> Row:
    """What was measured of all clips together."""
    pairs = [one["maps"] for one in ones]
    survived = [overlap(*pair) for pair in pairs]
    row = {"method": name, "draws": draws, "usual": draws == METHODS[name].usual}
    row |= over_speakers("changed", [1 - one for one in survived], ones)
    row |= {"seconds": statistics.median(one["seconds"] for one in ones)}
    row |= {"error": error_to(reference, pairs) if name == OURS else error_between(pairs)}
    if all(one["auc"] for one in ones):
        aucs = [statistics.fmean(one["auc"]) for one in ones]
        kinds = [kind_of(*both) for both in zip(survived, aucs, strict=True)]
        row |= {"auc": statistics.fmean(aucs)} | {kind: kinds.count(kind) for kind in KINDS}
    return row


KINDS = ("stable and right", "stable and wrong", "unstable")


def kind_of(survived: float, auc: float) -> str:
    """Kind of a clip's map.

    Stable if four of five of its strongest frames, which are nine in a short clip, survive a new seed. Right
    if, in three of four pairs, a frame of the evidence has more than one outside: halfway between chance
    and always.
    """
    if survived < STABLE:
        return "unstable"
    return "stable and right" if auc >= RIGHT else "stable and wrong"


def overlap(first: Tensor, second: Tensor) -> float:
    """Share of the strongest tenth of the frames of one map that is among those of the other.

    Frames as strong as each other come in a random order, and those that are given nothing are not strong.
    """
    k = -(-len(first) // STRONGEST_SHARE)
    return len(strongest(first, k, 0) & strongest(second, k, 1)) / k


def strongest(values: Tensor, k: int, seed: int) -> set[int]:
    """At most `k` frames, ties in the random order of a seed."""
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    best = order[torch.tensor(top(values[order], k))[:, 0]]
    return {*best[values[best] != 0].tolist()}


def error_between(pairs: Sequence[Sequence[Tensor]]) -> float | None:
    """Relative error of a map, pooled over clips: half the squared distance of two seeds over their product.

    The product of two independent estimates is on average the square of what they estimate. None where it is
    not positive, in which case there is nothing but noise.
    """
    products = float(sum(first @ second for first, second in pairs))
    distances = float(sum((first - second).square().sum() for first, second in pairs))
    return (distances / 2 / products) ** 0.5 if products > 0 else None


def error_to(reference: Sequence[Tensor], pairs: Sequence[Sequence[Tensor]]) -> float | None:
    """Relative error of maps of the clips that have a reference; None where none has."""
    known = [(one, true) for pair, true in zip(pairs, reference, strict=False) for one in pair]
    if not known:
        return None
    errors = sum(float((one - true).square().sum()) for one, true in known)
    return (errors / sum(float(true.square().sum()) for _, true in known)) ** 0.5


def over_speakers(name: str, values: Sequence[float], ones: Sequence[Row]) -> Row:
    """Mean with its interval over speakers; ends are None where too few are there."""
    found = bootstrap_mean(values, [one["speaker"] for one in ones])
    low, high = (end if np.isfinite(end) else None for end in (found.low, found.high))
    return {name: found.value, "low": low, "high": high, "clips": len(values)}


def heads_panel(arguments: argparse.Namespace, _: Found) -> list[Row]:
    """A row for each classifier, method and change: other draws, another head's seed, another fold."""
    rows = []
    for title, heads in all_heads(arguments).items():
        found = []
        for clip in heads.clips[:NUM_HEADS_CLIPS]:
            case = open_case(clip, heads.of(0, clip, 0))
            others = {"another training seed": heads.of(OTHER_SEED, clip, 0)}
            others |= {"another fold": heads.of(0, clip, 1)} if heads.has_folds else {}
            print(f"{case.clip.name}: {len(others)} other heads", flush=True)
            parts = [case_key(case), str(HEADS), *map(fingerprint, others.values())]
            found.append(kept(arguments.cache_dir, parts, partial(measure_heads, case, others)))
        rows += [
            {"classifier": title, "method": name, "change": change}
            | over_speakers("kept", [one[name][change] for one in found], found)
            for name, _ in HEADS
            for change in found[0][name]
        ]
    return rows


def measure_heads(case: Case, others: Mapping[str, EmotionClassifier]) -> Row:
    """Overlap of the strongest frames by method and change, always with other draws.

    With the same draws a map that is mostly noise would stay, whatever the head.
    """
    found: Row = {"speaker": case.clip.speaker}
    for name, draws in HEADS:
        explain = METHODS[name].explain
        first = explain(case, draws, 0).values
        changed = {"other draws": explain(case, draws, 1)}
        changed |= {what: explain(replace(case, classifier=one), draws, 1) for what, one in others.items()}
        found[name] = {what: overlap(first, one.values) for what, one in changed.items()}
    return found


def base_panel(arguments: argparse.Namespace, found: Found) -> list[Row]:
    """Seconds at Base geometry: of ours with the draws that the classifiers need, of a draw of Captum's."""
    pair = base_pair(quick=arguments.quick)
    case = open_case(Clip(Path("noise.wav"), "noise"), pair.ours, pair.waveform)
    needed = (draws_to_goal(rows) for rows in by_classifier(found).values())
    calls = {str(draws): partial(ours, case, draws, 0) for draws in {*needed} - {None}}
    seconds = time_interleaved({**calls, CAPTUM: captum_call(pair, 5)}, arguments.repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [{"captum_draw": medians.pop(CAPTUM) / 5, "ours": medians}]


PANELS = {"methods": methods_panel, "evidence": evidence_panel, "heads": heads_panel, "base": base_panel}


# What is kept


def case_key(case: Case) -> str:
    """Of what decides the maps of a case."""
    return " ".join(
        (code_key(*MAPS), _own_key(), fingerprint(case.classifier), tensor_sha256(case.rows), case.label)
    )


@cache
def _own_key() -> str:
    return sha256(Path(__file__).with_name("_methods.py").read_bytes()).hexdigest()


def kept(cache_dir: Path, parts: Sequence[str], compute: Callable[[], Any]) -> Any:  # noqa: ANN401 - plain JSON
    """A result that is written down when it is there, and read the next time.

    Args:
        cache_dir: Where features are kept too.
        parts: What decides the result.
        compute: Makes it, in plain JSON types.
    """
    path = cache_dir / "reliability" / f"{sha256(repr(parts).encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        write_atomically(path, json.dumps(compute()).encode())
    return json.loads(path.read_text())


# What follows


def by_classifier(found: Found) -> dict[str, Rows]:
    """Rows of the first panel, in the order of the numbers of draws."""
    table: dict[str, Rows] = {}
    for row in sorted(found["methods"], key=lambda row: row["draws"]):
        table.setdefault(row["classifier"], {})[row["method"], row["draws"]] = row
    return table


def lines(found: Found) -> Iterator[Measurement]:
    """Claims and what stands beside them, from the rows of all panels."""
    table = by_classifier(found)
    for title, rows in table.items():
        yield from survival_lines(title, rows)
    for title, rows in table.items():
        yield race_line(title, rows)
        yield race_line(title, rows, {SMOOTH})
    for title, bar in BAR_TENTH.items():
        if rows := table.get(title):
            yield tenth_line(f"{title}: seconds to an error of 10 %", rows, bar)
            for base in found["base"]:
                name = f"Base geometry, draws of {title}: seconds to an error of 10 %"
                yield tenth_line(name, rows, BAR_TENTH[WHISPER], base)
    for row in found["evidence"]:
        note = ", ".join(f"{row[kind]} {kind}" for kind in KINDS)
        name = f"planted cues, {row['method']}, {row['draws']} draws: signed AUC"
        yield Measurement(name, row["auc"], note=f"of {row['clips']} clips {note}")
    for row in found["heads"]:
        name = f"{row['classifier']}, {row['method']}: top 10 % kept by {row['change']}"
        yield Measurement(name, row["kept"], row["low"], row["high"], note=_note(row))


def survival_lines(title: str, rows: Rows) -> Iterator[Measurement]:
    """Strongest frames that survive a new seed, of ours and of what is commonly used."""
    for (name, draws), row in rows.items():
        if row["usual"] or (name, draws) == (CAPTUM, USUAL_MANY):
            bar = BAR_SURVIVAL if name in {OURS, OTHERS} and title == WHISPER else None
            ends = [None if row[end] is None else 1 - row[end] for end in ("high", "low")]
            what = f"{title}, {name}, {draws} draws: top 10 % that survive a seed"
            yield Measurement(
                what, 1 - row["changed"], *ends, at_least=bar, note=f"{_note(row)}; {row['seconds']:.2g} s"
            )


def _note(row: Row) -> str:
    return f"range: 95 % interval over speakers; {row['clips']} clips"


def race_line(title: str, rows: Rows, without: Collection[str] = ()) -> Measurement:
    """How many times longer the fastest of the libraries takes than ours until nine of ten frames survive.

    Args:
        title: Of the classifier.
        rows: Its rows.
        without: Methods that are left out: those whose maps have no sign.
    """
    racing = [name for name, one in METHODS.items() if one.race and name not in without]
    mine, is_there = seconds_to_stable(OURS, rows)
    name = min(racing, key=lambda one: seconds_to_stable(one, rows)[0])
    seconds, reached = seconds_to_stable(name, rows)
    note = f"ours {mine:.2g} s; {name} {'more than ' * (not reached)}{seconds:.2g} s"
    note += "" if is_there else "; ours does not reach it"
    what = f"{title}: seconds to 90 % survival, best library{' with signed maps' * bool(without)} / ours"
    bar = None if without else BAR_RACE
    return Measurement(what, seconds / mine if is_there else None, unit="x", at_least=bar, note=note)


def seconds_to_stable(method: str, rows: Rows) -> tuple[float, bool]:
    """Seconds to 90 % survival, between two numbers of draws by powers, and True.

    If the most that were tried do not reach it, their seconds and False.
    """
    tried = [row for (name, _), row in rows.items() if name == method]
    allowed = 1 - GOAL_SURVIVAL
    for place, row in enumerate(tried):
        if row["changed"] <= allowed:
            if place == 0:
                return row["seconds"], True
            before, least = tried[place - 1], max(row["changed"], LEAST_CHANGED)
            share = math.log(before["changed"] / allowed) / math.log(before["changed"] / least)
            return before["seconds"] * (row["seconds"] / before["seconds"]) ** share, True
    return (tried[-1]["seconds"], False) if tried else (float("inf"), False)


def draws_to_goal(rows: Rows) -> int | None:
    """The fewest draws of ours that were tried whose error is 10 % at most."""
    enough = (draws for (name, draws), row in rows.items() if name == OURS and (row["error"] or 1) <= GOAL)
    return next(enough, None)


def tenth_line(name: str, rows: Rows, bar: float, base: Row | None = None) -> Measurement:
    """How many times longer Captum's `GradientShap` takes than ours until the map is within 10 %.

    Args:
        name: Of the line.
        rows: Of a classifier, which decide the draws and, without `base`, the seconds.
        bar: The claim.
        base: Seconds at another geometry.
    """
    draws, many = draws_to_goal(rows), rows.get((CAPTUM, USUAL_MANY), {})
    if draws is None or not many.get("error") or (base and str(draws) not in base["ours"]):
        return Measurement(
            name, None, unit="x", at_least=bar, note="not reached by what was tried, or not timed"
        )
    theirs = USUAL_MANY * (many["error"] / GOAL) ** 2
    mine = base["ours"][str(draws)] if base else rows[OURS, draws]["seconds"]
    seconds = theirs * (base["captum_draw"] if base else many["seconds"] / USUAL_MANY)
    note = f"ours {draws} draws, {mine:.2g} s; Captum {theirs:.0f} draws, {seconds:.3g} s"
    return Measurement(name, seconds / mine, unit="x", at_least=bar, note=note)


if __name__ == "__main__":
    main()
