"""Attributions of words and phones over a corpus, with intervals over speakers; and reliance on the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from wavshap_lightning.audio.segments import PAUSE
from wavshap_lightning.evaluation.intervals import Estimate, bootstrap_mean
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.explainer.explanation import Explanation

OTHER, ELSEWHERE = "other", "elsewhere"
PHONES = {
    "vowel": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW",
    "nasal": "M N NG",
    "fricative": "CH DH F HH JH S SH TH V Z ZH",
    "stop": "B D G K P T",
    "approximant": "L R W Y",
    PAUSE: PAUSE.upper(),
    ELSEWHERE: ELSEWHERE.upper(),
}
"""Classes of the phones of the CMU dictionary (ARPAbet); affricates are among the fricatives."""

CLASSES = {phone: name for name, phones in PHONES.items() for phone in phones.split()}
THIRDS = ("first third", "second third", "last third")

COLUMNS = (
    *("target", "kind", "part", "share", "share_low", "share_high"),
    *("value_per_s", "value_low", "value_high", "n", "resampled"),
)
"""Columns of `words.csv` and `phones.csv`."""

FEWEST_SPEAKERS, NUM_PERMUTATIONS, MOST_NUMBERS, LEVEL = 3, 9999, 20_000_000, 0.05
LEAST_DIFFERENCE = 0.1
"""Smallest difference that is a warning. Heads on RAVDESS that were trained on both sentences in every
emotion stay below half of it, and heads that tell an emotion by its sentence are above it."""

TEXT_RELIANCE = (
    "{target} depends on the word '{word}': clips that say it have more evidence for {target} in it than "
    "other clips of the same {speakers} speakers have at its place ({value:.0%} of the magnitude of a mean "
    "clip; p = {p:.2g} after correction). The model may rely on what is said: test it on the same sentences "
    "in all classes."
)

Row = Float[np.ndarray, " clips"]
Words = tuple[Shaped[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]
Names = Callable[[Sequence[str]], Sequence[str]]
ClipWords = Mapping[str, Any]
"""Words and phones of one clip in plain JSON types: `target`, `speaker`, and `tiers`, which holds for
`"words"` and `"phones"` a list of `[text, seconds, attribution]`, pauses among them."""


def phone_class(phone: str) -> str:
    """Class of a phone of the CMU dictionary, with or without stress; `"other"` for any other sign.

    >>> [phone_class(one) for one in ("AH0", "t", "NG", "pause", "tʃ")]
    ['vowel', 'stop', 'nasal', 'pause', 'other']
    """
    return CLASSES.get(phone.upper().rstrip("012"), OTHER)


def _thirds(words: Sequence[str]) -> list[str]:
    """Third of the words, by their number, that each word is in."""
    spoken = [place for place, word in enumerate(words) if word not in (PAUSE, ELSEWHERE)]
    rank = {place: THIRDS[3 * order // len(spoken)] for order, place in enumerate(spoken)}
    return [rank.get(place, word) for place, word in enumerate(words)]


KINDS: Mapping[str, Mapping[str, Names]] = {
    "words": {"word": list, "position": _thirds},
    "phones": {"class": lambda phones: [*map(phone_class, phones)], "phone": list},
}
"""Part of the clip that each unit belongs to, by tier and kind of part."""


@dataclass(frozen=True)
class PartSummary:
    """Attribution of one class to one word, position, phone or class of phones, over clips that have it.

    Args:
        target: The class.
        kind: `"word"`, `"position"`, `"class"` or `"phone"`.
        part: Name of the part.
        share: Share of the magnitude of the sums over all words (or phones), pauses among them.
        rate: Signed attribution per second.
    """

    target: str
    kind: str
    part: str
    share: Estimate
    rate: Estimate


def clip_words(numbers: Mapping[str, Any], speaker: str) -> ClipWords:
    """Words and phones of one explained clip, which tables over a corpus are made from; empty without words.

    Args:
        numbers: The explanation in plain JSON types.
        speaker: Name of the speaker; empty if unknown.
    """
    tiers = {tier: _units(held) for tier in KINDS if (held := numbers.get(tier)) is not None}
    return {"target": numbers["target"], "speaker": speaker, "tiers": tiers} if tiers else {}


def _units(columns: Mapping[str, Any]) -> list[list[Any]]:
    """Text, seconds and attribution of each unit of a tier; the last is what lies elsewhere, if anything."""
    ends = zip(columns["start_s"][:-1], columns["end_s"][:-1], strict=True)
    seconds = [*(float(end_s - start_s) for start_s, end_s in ends), 0.0]
    texts, values = [*map(str, columns["text"][:-1]), ELSEWHERE], map(float, columns["attribution"])
    rows = [[*row] for row in zip(texts, seconds, values, strict=True)]
    return rows if rows[-1][2] else rows[:-1]


def spoken_shares(explanation: Explanation, target: str) -> dict[str, float]:
    """Shares of the magnitude on words, and between them, and on vowels, as far as their times are known.

    Args:
        explanation: The explanation.
        target: One of its targets.
    """
    tiers = {tier: _units(explanation.to_columns(tier, target=target)) for tier in explanation.tiers}
    found = {
        tier: part_shares([phone_class(one[0]) for one in units], units) for tier, units in tiers.items()
    }
    none = (0.0, 0.0)
    shares = {"vowels": found["phones"].get("vowel", none)[0]} if "phones" in found else {}
    if "words" in found:
        pauses, elsewhere = (found["words"].get(name, none)[0] for name in (PAUSE, ELSEWHERE))
        shares |= {"words": 1 - pauses - elsewhere, "between_words": pauses}
    return shares


def part_shares(names: Sequence[str], units: Sequence[Sequence[Any]]) -> dict[str, tuple[float, float]]:
    """Share of the magnitude of the units' attributions, and signed attribution per second, of each part.

    Args:
        names: Part that each unit belongs to.
        units: Text, seconds and attribution of each unit.

    >>> part_shares(["oh", "no", "oh"], [["oh", 0.5, 3.0], ["no", 0.5, -1.0], ["oh", 0.5, -1.0]])
    {'oh': (0.8, 2.0), 'no': (0.2, -2.0)}
    """
    whole = sum(abs(value) for _, _, value in units)
    found: dict[str, tuple[float, float]] = {}
    for name in dict.fromkeys(names):
        own = [unit for unit, one in zip(units, names, strict=True) if one == name]
        seconds, values = sum(unit[1] for unit in own), [unit[2] for unit in own]
        share = sum(map(abs, values)) / whole if whole else np.nan
        found[name] = (share, sum(values) / seconds if seconds else np.nan)
    return found


def summarize_parts(clips: Sequence[ClipWords], tier: str) -> Iterator[PartSummary]:
    """Mean share and rate of every part of a tier, class by class, with 95 % intervals over speakers.

    Args:
        clips: Words and phones of the clips.
        tier: `"words"` or `"phones"`.
    """
    for target in dict.fromkeys(clip["target"] for clip in clips):
        group = [clip for clip in clips if clip["target"] == target and tier in clip["tiers"]]
        speakers = [clip["speaker"] for clip in group]
        tiers = [(clip["tiers"][tier], [text for text, *_ in clip["tiers"][tier]]) for clip in group]
        for kind, names in KINDS[tier].items():
            found = [part_shares(names(texts), units) for units, texts in tiers]
            for part in dict.fromkeys(part for one in found for part in one):
                columns = np.transpose([one.get(part, (np.nan, np.nan)) for one in found])
                share, rate = (bootstrap_mean(column, speakers) for column in columns)
                yield PartSummary(target, kind, part, share, rate)


def part_rows(parts: Iterable[PartSummary]) -> list[tuple[str, ...]]:
    """Rows of `words.csv` and `phones.csv`, the names of the columns first."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for one in parts:
        ends = [number for found in (one.share, one.rate) for number in (found.value, found.low, found.high)]
        cells = (f"{number:.6g}" if np.isfinite(number) else "" for number in ends)
        counts = (one.share.num_clips, f"{one.share.num_resampled} {one.share.resampled}")
        rows.append((one.target, one.kind, one.part, *cells, *map(str, counts)))
    return rows


def find_text_reliance(clips: Sequence[ClipWords], *, seed: int = 0) -> list[Diagnostic]:
    """Warnings of classes that are attributed to the same word across speakers, more than chance explains.

    The evidence of a clip is the signed share of the word, or where it is not said, of the word nearest to
    its usual place in the sentence; 0 in clips explained for another class. The statistic is the mean over
    clips with the word less that over clips without it, of each speaker who has both, mean over at least
    three speakers. Its distribution without reliance is that of shuffling the sentences among the clips of
    each speaker; the largest over the classes, relative to its standard deviation, corrects for the number
    of classes, and Bonferroni's factor for that of words.

    Args:
        clips: Words of clips, each explained for the class that it is predicted as; of a single class there
            is nothing to compare.
        seed: Random seed of the shuffles.
    """
    said = sorted(((clip, _said(clip)) for clip in clips), key=lambda one: one[0]["speaker"])
    said = [(clip, one) for clip, one in said if len(one[0])]
    targets, owners = ([clip[name] for clip, _ in said] for name in ("target", "speaker"))
    classes, speaker = np.unique(targets), np.unique(owners, return_inverse=True)[1]
    chosen, words = np.array(targets)[:, None] == classes, [one for _, one in said]
    found = {
        word: _contrast(word, words, speaker) for word in sorted({text for one, *_ in words for text in one})
    }
    contrasts = {word: one for word, one in found.items() if one is not None and len(classes) > 1}
    count = min(NUM_PERMUTATIONS, MOST_NUMBERS // max(len(said), 1))
    shuffled = np.argsort(np.random.default_rng(seed).random((count, len(said))) + speaker, axis=1)
    warned = []
    for word, (weights, evidence) in contrasts.items():
        scores = evidence[:, None] * chosen
        differences, null = weights @ scores, weights[shuffled] @ scores
        spread = np.maximum(null.std(0), np.finfo(float).tiny)
        exceeded = (null / spread).max(1)[:, None] >= differences / spread
        p = np.minimum((1 + exceeded.sum(0)) / (1 + count) * len(contrasts), 1)
        for place in np.flatnonzero((p < LEVEL) & (differences >= LEAST_DIFFERENCE)):
            value, speakers = float(differences[place]), len({*speaker[weights != 0]})
            facts = {
                "target": classes[place],
                "word": word,
                "value": value,
                "speakers": speakers,
                "p": p[place],
            }
            warned.append(Diagnostic("text_reliance", "warning", TEXT_RELIANCE.format(**facts), value))
    return warned


def _said(clip: ClipWords) -> Words:
    """Words of a clip without pauses, their places in the sentence from 0 to 1, and their signed shares."""
    units = clip["tiers"].get("words", [])
    whole = sum(abs(value) for *_, value in units) or 1.0
    words = [(text, value / whole) for text, _, value in units if text not in (PAUSE, ELSEWHERE)]
    places = (np.arange(len(words)) + 0.5) / max(len(words), 1)
    return np.array([text for text, _ in words]), places, np.array([share for _, share in words])


def _contrast(word: str, said: Sequence[Words], speaker: Int[np.ndarray, " clips"]) -> tuple[Row, Row] | None:
    """Weights of clips with a word less those without it, mean over speakers, and each clip's evidence."""
    own = [texts == word for texts, *_ in said]
    has = np.array([one.any() for one in own])
    num_with, num_without = (np.bincount(speaker, part) for part in (has, ~has))
    both = (num_with > 0) & (num_without > 0)
    if both.sum() < FEWEST_SPEAKERS:
        return None
    counts = np.where(has, num_with[speaker], -num_without[speaker])
    usual = np.concatenate([places[one] for one, (_, places, _) in zip(own, said, strict=True)]).mean()
    nearest = [
        one if one.any() else np.abs(places - usual).argmin()
        for one, (_, places, _) in zip(own, said, strict=True)
    ]
    evidence = [shares[one].sum() for one, (*_, shares) in zip(nearest, said, strict=True)]
    return both[speaker] / counts / both.sum(), np.array(evidence)
