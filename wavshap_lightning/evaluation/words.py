"""Attributions of words and phones over a corpus, with intervals over speakers; and reliance on the text."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from wavshap_lightning.audio.segments import PAUSE
from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.explainer.explanation import Explanation

ELSEWHERE = "elsewhere"
UNSPOKEN = PAUSE, ELSEWHERE
"""Texts of what is no word; the second is time that no word or pause covers, such as silence a model adds."""

PHONES = {
    "vowel": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW",
    "nasal": "M N NG",
    "fricative": "CH DH F HH JH S SH TH V Z ZH",
    "stop": "B D G K P T",
    "approximant": "L R W Y",
}
"""Classes of the phones of the CMU dictionary (ARPAbet); affricates are among the fricatives."""

CLASSES = {phone: name for name, phones in PHONES.items() for phone in phones.split()}
THIRDS = ("first third", "second third", "last third")

ENOUGH_CLIPS = 5
"""Fewer do not show how clips differ, so that there is no interval."""

FEWEST_SPEAKERS, NUM_PERMUTATIONS, MOST_NUMBERS, LEVEL = 3, 9999, 20_000_000, 0.05
LEAST_DIFFERENCES = 0.34, 0.1
"""Smallest difference that is a warning, where all clips are explained for one class and where each is for
its prediction, so that most count 0. Chosen between heads on RAVDESS that were trained on both sentences in
every emotion (at most 0.26 and 0.05) and heads that tell an emotion by its sentence (0.45 and 0.16 or more),
on actors 1 to 12."""

TEXT_RELIANCE = (
    "{} depends on the word '{}', which has {:.0%} of the magnitude of a clip more than other "
    "words at its place ({} speakers; p = {:.2g} after correction): the model may rely on what is "
    "said. Test it on the same sentences in all classes."
)

Contrast = tuple[Float[np.ndarray, " clips"], Float[np.ndarray, " clips"]]
Words = tuple[Shaped[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]
ClipWords = Mapping[str, Any]
"""Words and phones of one clip in plain JSON types: `target`, `speaker`, and `tiers`, which holds for
`"words"` and `"phones"` a list of `[text, seconds, attribution]`, pauses among them."""


def phone_class(phone: str) -> str:
    """Class of a phone of the CMU dictionary, with or without stress; `"other"` for any other sign.

    >>> [phone_class(one) for one in ("AH0", "t", "NG", "pause", "tʃ")]
    ['vowel', 'stop', 'nasal', 'pause', 'other']
    """
    return phone if phone in UNSPOKEN else CLASSES.get(phone.upper().rstrip("012"), "other")


def _thirds(words: list[str]) -> list[str]:
    """Third of the words, by their number, that each word is in."""
    spoken = [place for place, word in enumerate(words) if word not in UNSPOKEN]
    rank = {place: THIRDS[3 * order // len(spoken)] for order, place in enumerate(spoken)}
    return [rank.get(place, word) for place, word in enumerate(words)]


Kind = Callable[[list[str]], list[str]]
KINDS: Mapping[str, Mapping[str, Kind]] = {
    "words": {"word": list, "position": _thirds},
    "phones": {"class": lambda phones: [*map(phone_class, phones)], "phone": list},
}
"""Part of the clip that each unit belongs to, by tier and kind of part."""


PartSummary = namedtuple(  # noqa: PYI024 - its fields are columns
    "PartSummary", "target kind part share share_low share_high value_per_s value_low value_high n resampled"
)
"""Attribution of a class to a word, position, phone or class of phones: a row of `words.csv` or `phones.csv`.

`share` is that of the magnitude of the sums over all words (or phones), pauses among them, and `value_per_s`
the signed attribution per second, means over the `n` clips that have the part. `resampled` says what the 95 %
intervals are over; their ends are NaN for fewer than five clips."""


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
    shares: dict[str, float] = {}
    for tier in explanation.tiers:
        found = part_shares(KINDS["phones"]["class"], _units(explanation.to_columns(tier, target=target)))
        pauses, elsewhere, vowels = (found.get(name, (0.0, 0.0))[0] for name in (*UNSPOKEN, "vowel"))
        named = {"words": 1 - pauses - elsewhere, "between_words": pauses}
        shares |= named if tier == "words" else {"vowels": vowels}
    return shares


def part_shares(kind: Kind, units: Sequence[Sequence[Any]]) -> dict[str, tuple[float, float]]:
    """Share of the magnitude of the units' attributions, and signed attribution per second, of each part.

    Args:
        kind: Part that each unit belongs to, from the texts of all.
        units: Text, seconds and attribution of each unit.

    >>> part_shares(list, [["oh", 0.5, 3.0], ["no", 0.5, -1.0], ["oh", 0.5, -1.0]])
    {'oh': (0.8, 2.0), 'no': (0.2, -2.0)}
    """
    whole, names = sum(abs(value) for _, _, value in units), kind([text for text, *_ in units])
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
        for kind, names in KINDS[tier].items():
            found = [part_shares(names, clip["tiers"][tier]) for clip in group]
            for part in dict.fromkeys(part for one in found for part in one):
                columns = np.transpose([one.get(part, (np.nan, np.nan)) for one in found])
                share, rate = (bootstrap_mean(column, speakers) for column in columns)
                known = 1.0 if share.num_clips >= ENOUGH_CLIPS else np.nan
                ends = [(one.value, known * one.low, known * one.high) for one in (share, rate)]
                resampled = f"{share.num_resampled} {share.resampled}"
                yield PartSummary._make([target, kind, part, *ends[0], *ends[1], share.num_clips, resampled])


def find_text_reliance(clips: Sequence[ClipWords], *, seed: int = 0) -> Iterator[Diagnostic]:
    """Warnings of classes that are attributed to the same word across speakers, more than chance explains.

    The evidence of a clip is the signed share of the word, or where it is not said, of the word nearest to
    its usual place in the sentence; 0 in clips explained for another class. The statistic is the mean over
    clips with the word less that over clips without it, of each speaker who has both, mean over at least
    three speakers. Its distribution without reliance is that of shuffling the sentences among the clips of
    each speaker; the largest over the classes, relative to its standard deviation, corrects for the number
    of classes, and Bonferroni's factor for that of words.

    Args:
        clips: Words of clips, each explained for the class that it is predicted as, or all for one class.
        seed: Random seed of the shuffles.
    """
    clips = sorted((clip for clip in clips if len(_said(clip)[0])), key=lambda clip: clip["speaker"])
    said = [_said(clip) for clip in clips]
    targets, owners = ([clip[name] for clip in clips] for name in ("target", "speaker"))
    classes, speaker = np.unique(targets), np.unique(owners, return_inverse=True)[1]
    words = sorted({text for texts, *_ in said for text in texts})
    contrasts = [(word, *one) for word in words if (one := _contrast(word, said, speaker)) is not None]
    count = min(NUM_PERMUTATIONS, MOST_NUMBERS // max(len(said), 1))
    shuffled = np.argsort(np.random.default_rng(seed).random((count, len(said))) + speaker, axis=1)
    for word, weights, evidence in contrasts:
        scores = evidence[:, None] * (np.array(targets)[:, None] == classes)
        found, null = weights @ scores, weights[shuffled] @ scores
        spread = np.maximum(null.std(0), np.finfo(float).tiny)
        exceeded = (null / spread).max(1)[:, None] >= found / spread
        p = np.minimum((1 + exceeded.sum(0)) / (1 + count) * len(contrasts), 1)
        for place in np.flatnonzero((p < LEVEL) & (found >= LEAST_DIFFERENCES[len(classes) > 1])):
            count_both = len({*speaker[weights != 0]})
            message = TEXT_RELIANCE.format(classes[place], word, found[place], count_both, p[place])
            yield Diagnostic("text_reliance", "warning", message, float(found[place]))


def _said(clip: ClipWords) -> Words:
    """Words of a clip without pauses, their places in the sentence from 0 to 1, and their signed shares."""
    units = clip["tiers"].get("words", [])
    whole = sum(abs(value) for *_, value in units) or 1.0
    words = [(text, value / whole) for text, _, value in units if text not in UNSPOKEN]
    places = (np.arange(len(words)) + 0.5) / max(len(words), 1)
    return np.array([text for text, _ in words]), places, np.array([share for _, share in words])


def _contrast(word: str, said: Sequence[Words], speaker: Int[np.ndarray, " clips"]) -> Contrast | None:
    """Weights of clips with a word less those without it, mean over speakers, and each clip's evidence."""
    texts, places, shares = zip(*said, strict=True)
    own = [one == word for one in texts]
    has = np.array([one.any() for one in own])
    num_with, num_without = (np.bincount(speaker, part) for part in (has, ~has))
    both = (num_with > 0) & (num_without > 0)
    if both.sum() < FEWEST_SPEAKERS:
        return None
    counts = np.where(has, num_with[speaker], -num_without[speaker])
    usual = np.concatenate(places)[np.concatenate(own)].mean()
    nearest = [np.abs(one - usual).argmin() for one in places]
    which = zip(shares, own, nearest, strict=True)
    evidence = np.array([share[one if one.any() else at].sum() for share, one, at in which])
    return both[speaker] / counts / both.sum(), evidence
