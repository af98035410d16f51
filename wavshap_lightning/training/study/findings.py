"""Findings and limits of a study in words: what invalidates its scores, and what cannot be concluded.

Both are read from the content of `study.json`, so that they can be had again without any recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from math import inf
from operator import itemgetter
from typing import Any

from scipy.stats import t

from wavshap_lightning.corpora.audit import REMEDIES
from wavshap_lightning.corpora.clip import SPLITS
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.evaluation.intervals import FEWEST_SPEAKERS, LEVEL

LEAKS = (
    *("shared speaker", "similar speakers", "shared dialogue", "similar dialogues"),
    *("duplicate audio", "overlapping spans"),
)
"""Checks of the audit that find the same voice or sound in two splits."""

LEAST_GAP, GAP_LEVEL = 0.05, 0.99
"""A gap between groups is a finding from this size on, and if the interval of this level excludes 0."""

NEVER = 0.1
"""Recall from which down a class counts as never predicted, as a share of that by chance."""

LEAKED, CHOSEN_ON_TEST = "leaked speaker", "chosen on the test clips"
SEVERITIES = ("error", "warning", "note")

Study = Mapping[str, Any]
"""Content of `study.json`."""

Fault = dict[str, str]
"""Severity, name and detail of one finding."""


def find_faults(study: Study) -> list[Fault]:
    """Faults of a study: what invalidates its scores (errors), what limits them (warnings), and notes.

    A study without errors and warnings has none of these: a speaker or sound in two splits; a setting or
    epoch chosen on test clips; a class that is never predicted; a recording condition that tells a class; a
    gap between groups of at least 0.05 whose 99 % interval, corrected for the number of gaps, excludes 0;
    fewer than five speakers; a system that is not above chance.

    Args:
        study: Content of `study.json`.

    Returns:
        Findings with `severity`, `name` and `detail`, errors first.
    """
    tested = [(_named(one), one) for one in study["systems"]]
    if stress := study.get("stress"):
        tested.append((stress["run"], stress))
    parts = [*map(_corpus_faults, study["corpora"]), *map(_system_faults, study["systems"])]
    found = chain.from_iterable([*parts, _gap_faults(tested), _rank_faults(study)])
    return sorted(found, key=lambda fault: SEVERITIES.index(fault["severity"]))


def _fault(severity: str, name: str, detail: str) -> Fault:
    return {"severity": severity, "name": name, "detail": f"{detail}."}


def _named(system: Study) -> str:
    return f"{system['name']} on {system['corpus']}"


def _corpus_faults(corpus: Study) -> Iterator[Fault]:
    """Leaks that the audit or the protocol shows, conditions that tell a class, and too few speakers."""
    name, protocol = corpus["corpus"], corpus["protocol"]
    for check in LEAKS:
        yield from _leak(name, check, corpus.get("audit", {}).get("findings", ()))
    if protocol.get("unit") == "clip":
        detail = "clips were divided at random: test speakers are also trained on; divide by speaker"
        yield _fault("error", LEAKED, f"{name}: {detail}")
    for one in filter(itemgetter("tells"), corpus.get("conditions", ())):
        medians = "median {median:.3g} {unit}, of the others {others:.3g} {unit}".format_map(one)
        told = "the {condition} tells {label} (area under the ROC curve {area:.2f}".format_map(one)
        remedy = "a model may learn the recording; record all classes alike"
        yield _fault("error", "recording condition", f"{name}: {told}, {medians}): {remedy}")
    if corpus["speakers"] < FEWEST_SPEAKERS:
        detail = f"{corpus['speakers']} do not show how much speakers differ; intervals are too narrow"
        yield _fault("warning", "too few speakers", f"{name}: {detail}")


def _leak(corpus: str, check: str, findings: Sequence[Study]) -> Iterator[Fault]:
    """A leak that the audit found; between validation and test alone it is a choice on test clips."""
    own = [one for one in findings if one["check"] == check]
    pairs = [pair for one in own for pair in one["where"].items()]
    splits = {split for split in SPLITS for _, detail in pairs if split in detail}
    if len(splits) > 1:
        # Who told the study to go on has turned errors into warnings; names that are similar may be two.
        is_sure = not check.startswith("similar") or any(one["severity"] == "error" for one in own)
        name = CHOSEN_ON_TEST if splits == {"validation", "test"} else LEAKED
        words = listed((f"{place} ({detail})" for place, detail in dict(pairs).items()), limit=3)
        detail = f"{corpus}, {check}: {words}: scores may be too high; {REMEDIES[check]}"
        yield _fault("error" if is_sure else "warning", name, detail)


def _system_faults(system: Study) -> Iterator[Fault]:
    """A system chosen or tested wrongly, classes that it never predicts, and scores no better than chance."""
    name, recall = _named(system), {label: one for label, one in system["recall"].items() if one is not None}
    chance = 1 / len(system["recall"])
    if system.get("chosen_on") == "test":
        remedy = "the best of several scores is too high; choose on other speakers"
        yield _fault(
            "error", CHOSEN_ON_TEST, f"{name}: settings or epoch were chosen by test scores; {remedy}"
        )
    if never := [label for label, one in recall.items() if one <= NEVER * chance]:
        remedy = f"{len(recall) - len(never)} classes remain; train longer, or balance the classes"
        yield _fault("error", "class never predicted", f"{name} does not recognize {listed(never)}: {remedy}")
    if low := [label for label, one in recall.items() if NEVER * chance < one < chance]:
        detail = f"{name} recognizes {listed(low)} more rarely than by guessing ({chance:.3f})"
        yield _fault("note", "class below chance", detail)
    if system["uar_low"] is not None and system["uar_low"] <= chance:
        detail = f"the interval of its UAR of {system['uar']:.3f} includes chance ({chance:.3f})"
        yield _fault("warning", "not above chance", f"{name}: {detail}")


def _gap_faults(tested: Sequence[tuple[str, Study]]) -> Iterator[Fault]:
    """Groups that are recognized differently; speakers always are, and are no finding."""
    gaps = [
        (name, one.get("speakers") or inf, gap)
        for name, one in tested
        for gap in one.get("gaps", ())
        if gap["kind"] != "speaker" and gap["low"] is not None
    ]
    for name, speakers, gap in gaps:
        size, low, high = gap["difference"], gap["low"], gap["high"]
        # The interval as if by the normal distribution, widened: few speakers show little of how they differ.
        wider = t.isf((1 - GAP_LEVEL) / 2 / len(gaps), max(speakers - 2, 1)) / t.isf((1 - LEVEL) / 2, inf)
        ends = [size + wider * (end - size) for end in (low, high)]
        if abs(size) >= LEAST_GAP and min(ends) * max(ends) > 0:
            words = f"{gap['a']} minus {gap['b']}: {size:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
            yield _fault("warning", "gap between groups", f"{name}, {words}; give the scores of each group")


def _rank_faults(study: Study) -> Iterator[Fault]:
    """Corpora on which the best system does not differ from the next, or by less than seeds do."""
    pairs = {(one["corpus"], one["a"], one["b"]): one for one in study.get("comparisons", ())}
    ranked = sorted(study["systems"], key=lambda one: (one["corpus"], -one["uar"]))
    for corpus, systems in groupby(ranked, itemgetter("corpus")):
        top = [*systems][:2]
        names = [one["name"] for one in top]
        if pair := pairs.get((corpus, *names), pairs.get((corpus, *names[::-1]))):
            size, what = abs(pair["difference"]), f"{corpus}: {' and '.join(names)}"
            if not pair["different"]:
                test = f"(difference {size:.3f}, corrected p = {pair['p_corrected']:.3g})"
                yield _fault("note", "best not certain", f"{what} are not shown to differ {test}")
            if (spread := max(one["seed_std"] or 0.0 for one in top)) > size:
                detail = f"differ by {size:.3f}, seeds of one of them by {spread:.3f} (standard deviation)"
                yield _fault("note", "seeds differ more", f"{what} {detail}")


def limits_of(study: Study) -> list[str]:
    """Sentences on what a study does not show.

    Args:
        study: Content of `study.json`.
    """
    corpora, stress = study["corpora"], study.get("stress") or {}
    missing = {
        "transfer": "The systems were not tested on another corpus than they were trained on.",
        "inflation": "Leaky splits were not run: numbers of papers that have them cannot be compared.",
        "stress": "Noise, rooms and codecs were not tested: see train.py stress.",
        "attributions": "What the systems rely on was not looked at: see explain.py.",
    }
    gaps = stress.get("gaps") or any(one.get("gaps") for one in study["systems"])
    few = [one["corpus"] for one in corpora if one["speakers"] < 2 * FEWEST_SPEAKERS]
    return [
        f"Scores hold for recordings like those of {listed(one['corpus'] for one in corpora)}.",
        "Intervals and tests are over test speakers and seeds: rooms, languages and training sets vary more.",
        *([f"With fewer than ten speakers, intervals are too narrow: {listed(few)}."] if few else []),
        *(sentence for key, sentence in missing.items() if not study.get(key)),
        *([] if gaps else ["Genders and languages were not compared: they are not known, or of one kind."]),
        *stress.get("notes", ()),
    ]
