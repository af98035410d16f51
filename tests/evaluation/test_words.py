"""Words over a corpus: shares sum to one, intervals are over speakers, and a planted text is warned of."""

from __future__ import annotations

import numpy as np
import pytest

from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.evaluation.words import (
    clip_words,
    find_text_reliance,
    phone_class,
    summarize_parts,
)

SENTENCES = {"kids": "kids are talking by the door", "dogs": "dogs are sitting by the door"}


def draw_clips(seed, *, shortcut=False, fixed=False):
    """Six speakers say both sentences in four emotions, explained for the prediction, or all for "angry"."""
    rng, clips = np.random.default_rng(seed), []
    for speaker in range(6):
        for label in ("angry", "calm", "happy", "sad"):
            for first, sentence in SENTENCES.items():
                words = sentence.split()
                values = rng.normal(0.5, 0.5, len(words)) * [1.0, 0.3, 1.5, 0.4, 0.2, 2.0]
                target = "angry" if shortcut and first == "kids" else label
                if target != label:
                    values[0] = 4.0
                target = "angry" if fixed else target
                units = [[word, 0.25, value] for word, value in zip(words, values, strict=True)]
                tiers = {"words": [*units, ["pause", 0.5, 0.1]]}
                clips.append({"target": target, "speaker": f"s{speaker}", "tiers": tiers})
    return clips


def test_a_class_told_by_its_sentence_is_warned_of_at_the_word_that_tells_it():
    warned = [*find_text_reliance(draw_clips(0, shortcut=True))]
    assert {one.name for one in warned} == {"text_reliance"}
    assert warned[0].message.startswith("angry depends on the word 'kids'")
    assert not any(one.message.split("'")[1] == "by" for one in warned)


def test_a_class_that_all_clips_are_explained_for_is_warned_of_too():
    warned = [one.message for one in find_text_reliance(draw_clips(0, shortcut=True, fixed=True))]
    assert any(one.startswith("angry depends on the word 'kids'") for one in warned)
    assert all(one.startswith("angry depends on") for one in warned)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_without_a_shortcut_no_word_is_warned_of(seed, fixed):
    assert [*find_text_reliance(draw_clips(seed, fixed=fixed))] == []


def test_the_difference_is_that_of_the_shares_of_each_speaker():
    clips = draw_clips(0, shortcut=True)
    (found,) = [one for one in find_text_reliance(clips) if "'kids'" in one.message]
    differences = []
    for speaker in sorted({clip["speaker"] for clip in clips}):
        shares = {"kids": [], "dogs": []}
        for clip in (one for one in clips if one["speaker"] == speaker):
            word, _, value = clip["tiers"]["words"][0]
            whole = sum(abs(one[2]) for one in clip["tiers"]["words"])
            shares[word].append(value / whole if clip["target"] == "angry" else 0.0)
        differences.append(np.mean(shares["kids"]) - np.mean(shares["dogs"]))
    assert found.value == pytest.approx(np.mean(differences))


def test_too_few_speakers_or_one_sentence_tell_nothing():
    clips = draw_clips(0, shortcut=True)
    assert [*find_text_reliance([one for one in clips if one["speaker"] in ("s0", "s1")])] == []
    assert [*find_text_reliance([one for one in clips if one["tiers"]["words"][0][0] == "kids"])] == []
    assert [*find_text_reliance([])] == []


def test_shares_of_words_and_pauses_sum_to_one_and_their_intervals_are_over_speakers():
    clips = [one for one in draw_clips(1) if one["tiers"]["words"][0][0] == "kids"]
    parts = [one for one in summarize_parts(clips, "words") if one.target == "sad"]
    for kind in ("word", "position"):
        assert sum(one.share for one in parts if one.kind == kind) == pytest.approx(1)
    (door,) = [one for one in parts if one.part == "door"]
    own = [one for one in clips if one["target"] == "sad"]
    rates = [clip["tiers"]["words"][5][2] / 0.25 for clip in own]
    rate = bootstrap_mean(rates, [clip["speaker"] for clip in own])
    assert door[6:9] == (rate.value, rate.low, rate.high)
    assert door.resampled == "6 speakers"


def test_no_interval_of_few_clips_and_no_rate_of_what_has_no_time():
    units = [["kids", 0.2, 1.0], ["elsewhere", 0.0, 3.0]]
    clips = [{"target": "sad", "speaker": "", "tiers": {"words": units}}]
    kids, elsewhere, *_ = summarize_parts(clips, "words")
    assert kids[:4] == ("sad", "word", "kids", 0.25)
    assert (kids.value_per_s, kids.n, elsewhere.share) == (5.0, 1, 0.75)
    ends = [kids.share_low, kids.share_high, kids.value_low, kids.value_high]
    assert np.isnan([*ends, *elsewhere[4:9]]).all()


def test_units_of_a_clip_are_those_of_its_file():
    tier = {"text": ["kids", "pause", ""], "start_s": [0.0, 0.25, None], "end_s": [0.25, 1.0, None]}
    numbers = {"target": "sad", "words": {**tier, "attribution": [1.0, -2.0, 0.0]}}
    expected = {"words": [["kids", 0.25, 1.0], ["pause", 0.75, -2.0]]}
    assert clip_words(numbers, "s1") == {"target": "sad", "speaker": "s1", "tiers": expected}
    numbers["words"]["attribution"][2] = 0.5  # of the silence that a model adds
    assert clip_words(numbers, "")["tiers"]["words"][-1] == ["elsewhere", 0.0, 0.5]
    assert clip_words({"target": "sad"}, "s1") == {}


def test_every_phone_of_the_dictionary_has_a_class():
    # The 39 phones of the CMU dictionary.
    phones = (
        "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
    )
    assert "other" not in {phone_class(phone) for phone in phones.split()}
    assert len(phones.split()) == 39
