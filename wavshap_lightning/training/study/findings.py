"""Findings and limits of a study in words: what invalidates its scores, and what cannot be concluded.

Both are read from the content of `study.json`, so that they can be had again without any recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from scipy.stats import norm

from wavshap_lightning.corpora.audit import REMEDIES
from wavshap_lightning.corpora.clip import SPLITS
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.evaluation.intervals import FEWEST_SPEAKERS, LEVEL

LEAKS = {"shared speaker", "similar speakers", "shared dialogue", "similar dialogues"}
LEAKS |= {"duplicate audio", "overlapping spans"}
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
    stress = study.get("stress") or {}
    gaps = [(_named(one), one.get("gaps", ())) for one in study["systems"]]
    gaps.append((stress.get("run", ""), stress.get("gaps", ())))
    found = (
        *(_corpus_faults(one) for one in study["corpora"]),
        *(_system_faults(one) for one in study["systems"]),
        *(_gap_faults(name, some) for name, some in gaps),
        _rank_faults(study),
    )
    return sorted(chain.from_iterable(found), key=lambda fault: SEVERITIES.index(fault["severity"]))


def _fault(severity: str, name: str, detail: str) -> Fault:
    return {"severity": severity, "name": name, "detail": f"{detail}."}


def _named(system: Study) -> str:
    return f"{system['name']} on {system['corpus']}"


def _corpus_faults(corpus: Study) -> Iterator[Fault]:
    """Leaks that the audit or the protocol shows, conditions that tell a class, and too few speakers."""
    name, protocol = corpus["corpus"], corpus["protocol"]
    leaks = [one for one in corpus.get("audit", {}).get("findings", ()) if one["check"] in LEAKS]
    for check in sorted({one["check"] for one in leaks}):
        yield _leak(name, check, [one for one in leaks if one["check"] == check])
    if protocol.get("unit") == "clip":
        detail = "clips were divided at random: test speakers are also trained on; divide by speaker"
        yield _fault("error", LEAKED, f"{name}: {detail}")
    for one in corpus.get("conditions", ()):
        if one["tells"]:
            medians = "median {median:g} {unit}, of the others {others:g} {unit}".format_map(one)
            told = "the {condition} tells {label} (area under the ROC curve {area:.2f}".format_map(one)
            remedy = "a model may learn the recording; record all classes alike"
            yield _fault("error", "recording condition", f"{name}: {told}, {medians}): {remedy}")
    if corpus["speakers"] < FEWEST_SPEAKERS:
        detail = f"{corpus['speakers']} do not show how much speakers differ; intervals are too narrow"
        yield _fault("warning", "too few speakers", f"{name}: {detail}")


def _leak(corpus: str, check: str, findings: Sequence[Study]) -> Fault:
    """A leak that the audit found; between validation and test alone it is a choice on test clips."""
    where = {place: detail for one in findings for place, detail in one["where"].items()}
    splits = {
        split for one in findings for detail in one["where"].values() for split in SPLITS if split in detail
    }
    # Who told the study to go on has turned an error into a warning, and no leak into none.
    is_sure = len(splits) > 1 or any(one["severity"] == "error" for one in findings)
    name = CHOSEN_ON_TEST if splits == {"validation", "test"} else LEAKED
    words = listed((f"{place} ({detail})" for place, detail in where.items()), limit=3)
    detail = f"{corpus}, {check}: {words}: scores may be too high; {REMEDIES[check]}"
    return _fault("error" if is_sure else "warning", name, detail)


def _system_faults(system: Study) -> Iterator[Fault]:
    """A system chosen or tested wrongly, classes that it never predicts, and scores no better than chance."""
    name, recall = _named(system), {label: one for label, one in system["recall"].items() if one is not None}
    chance = 1 / len(system["recall"])
    if system.get("chosen_on") == "test":
        remedy = "the best of several scores is too high; choose on other speakers"
        yield _fault(
            "error", CHOSEN_ON_TEST, f"{name}: settings or epoch were chosen by test scores; {remedy}"
        )
    if (split := system.get("split", "speakers")) != "speakers":
        yield _fault("error", LEAKED, f"{name}: tested on {split}; divide by speaker")
    if never := [label for label, one in recall.items() if one <= NEVER * chance]:
        remedy = f"{len(recall) - len(never)} classes remain; train longer, or balance the classes"
        yield _fault("error", "class never predicted", f"{name} does not recognize {listed(never)}: {remedy}")
    if low := [label for label, one in recall.items() if NEVER * chance < one < chance]:
        detail = f"{name} recognizes {listed(low)} more rarely than by guessing ({chance:.3f})"
        yield _fault("note", "class below chance", detail)
    if system["uar_low"] is not None and system["uar_low"] <= chance:
        detail = f"the interval of its UAR of {system['uar']:.3f} includes chance ({chance:.3f})"
        yield _fault("warning", "not above chance", f"{name}: {detail}")


def _gap_faults(name: str, gaps: Sequence[Study]) -> Iterator[Fault]:
    """Groups that are recognized differently; speakers always are, and are no finding."""
    tested = [gap for gap in gaps if gap["kind"] != "speaker" and gap["low"] is not None]
    for gap in tested:
        wider = norm.isf((1 - GAP_LEVEL) / 2 / len(tested)) / norm.isf((1 - LEVEL) / 2)
        size, low, high = (gap[key] for key in ("difference", "low", "high"))
        ends = [size + wider * (end - size) for end in (low, high)]
        if abs(size) >= LEAST_GAP and min(ends) * max(ends) > 0:
            words = f"{size:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}; give the scores of each group"
            what = f"{name}: {gap['kind']}, {gap['a']} minus {gap['b']}"
            yield _fault("warning", "gap between groups", f"{what}: {words}")


def _rank_faults(study: Study) -> Iterator[Fault]:
    """Corpora on which the best system does not differ from the next, or by less than seeds do."""
    pairs = {(one.get("corpus"), one["a"], one["b"]): one for one in study.get("comparisons", ())}
    ranked = sorted(study["systems"], key=lambda one: (one["corpus"], -one["uar"]))
    for corpus, systems in groupby(ranked, itemgetter("corpus")):
        top = [*systems][:2]
        names = [one["name"] for one in top]
        found = (pairs.get((of, *order)) for of in (corpus, None) for order in (names, names[::-1]))
        if pair := next(filter(None, found), None):
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
        "stress": "Noise, rooms, codecs and groups of speakers were not tested: run train.py stress.",
    }
    few = [one["corpus"] for one in corpora if one["speakers"] < 2 * FEWEST_SPEAKERS]
    return [
        f"Scores hold for recordings like those of {listed(one['corpus'] for one in corpora)}.",
        "Intervals and tests resample the test speakers: rooms, languages and training sets vary more.",
        *([f"With fewer than ten speakers, intervals are too narrow: {listed(few)}."] if few else []),
        *(sentence for key, sentence in missing.items() if not study.get(key)),
        *stress.get("notes", ()),
    ]
