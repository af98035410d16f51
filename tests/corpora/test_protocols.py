from pathlib import Path

import pytest

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import load_ravdess
from wavshap_lightning.corpora.protocols import (
    ESD_5_FOLDS,
    IEMOCAP_5_SESSIONS,
    PROTOCOLS,
    RAVDESS_6_FOLDS,
    build_protocol,
    default_protocol,
)
from wavshap_lightning.errors import CorpusError

RAVDESS = Path(__file__).parents[2].parent / "shared/data/ravdess"


def clips_of(*speakers, split=None, count=4):
    return [
        Clip(Path(f"{who}/{index}.wav"), "sad", speaker=who, corpus="toy", split=split, text=str(index))
        for who in speakers
        for index in range(count)
    ]


def test_the_six_folds_of_ravdess():
    tested = [{int(actor) for actor in fold.test} for fold in RAVDESS_6_FOLDS.folds]
    assert tested == [
        {1, 11, 20, 21},
        {4, 10, 12, 14},
        {8, 9, 19, 23},
        {3, 5, 7, 24},
        {2, 15, 16, 18},
        {6, 13, 17, 22},
    ]
    assert [set(fold.validation) for fold in RAVDESS_6_FOLDS.folds] == [
        set(RAVDESS_6_FOLDS.folds[index].test) for index in (1, 2, 3, 4, 5, 0)
    ]


@pytest.mark.skipif(not RAVDESS.is_dir(), reason="the recordings of RAVDESS are not on this machine")
def test_all_of_ravdess_splits_without_sharing_a_speaker():
    clips = load_ravdess(RAVDESS)
    tested = []
    for index in range(6):
        split = RAVDESS_6_FOLDS.split(clips, index)
        speakers = [{clip.speaker for clip in part} for _, part in split.items()]
        assert [len(part) for _, part in split.items()] == [960, 240, 240]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 24
        tested += split.test
    assert sorted(tested, key=lambda clip: clip.path) == clips


def test_iemocap_validates_on_the_next_session():
    assert [(fold.test, fold.validation) for fold in IEMOCAP_5_SESSIONS.folds[3:]] == [
        (("Ses04F", "Ses04M"), ("Ses05F", "Ses05M")),
        (("Ses05F", "Ses05M"), ("Ses01F", "Ses01M")),
    ]


@pytest.mark.parametrize("numbers", [range(1, 21), range(1, 11), range(11, 21)])
def test_the_folds_of_esd_serve_either_language_and_both(numbers):
    clips = clips_of(*(f"{number:04d}" for number in numbers))
    for index in range(5):
        split = ESD_5_FOLDS.split(clips, index)
        assert (
            len({clip.speaker for clip in split.test})
            == len({clip.speaker for clip in split.validation})
            == len(numbers) / 5
        )


def test_the_default_is_the_official_split_where_every_clip_has_one():
    clips = [
        *clips_of("ann", split="train"),
        *clips_of("bob", split="validation"),
        *clips_of("cat", split="test"),
    ]
    assert default_protocol(clips).unit == "split"
    assert default_protocol([*clips, *clips_of("dan")]).unit == "speaker"


@pytest.mark.parametrize(("num_speakers", "num_folds"), [(2, 2), (3, 3), (4, 4), (9, 5)])
def test_the_default_is_by_speaker_otherwise(num_speakers, num_folds):
    protocol = default_protocol(clips_of(*"abcdefghi"[:num_speakers]))
    assert (protocol.unit, len(protocol.folds)) == ("speaker", num_folds)
    assert protocol.shared_validation == (num_speakers == 2)


def test_without_speakers_the_default_says_what_to_do():
    with pytest.raises(
        CorpusError, match=r"4 of 8 clips have no speaker.*speaker_pattern.*protocol=\"random-clips\""
    ):
        default_protocol([*clips_of("ann"), *clips_of("")])
    with pytest.raises(CorpusError, match=r"speakers=\['ann'\] are 1, .*protocol=\"random-clips\""):
        default_protocol(clips_of("ann"))


def test_every_protocol_can_be_asked_for_by_name():
    clips = [
        *clips_of("a", split="train"),
        *clips_of("b", split="validation"),
        *clips_of("c", "d", split="test"),
    ]
    for name in PROTOCOLS:
        chosen = clips[:8] if name == "two-speakers" else clips
        protocol = build_protocol(name, chosen, num_folds=4, seed=1)
        expected = {"official": 1, "two-speakers": 2}.get(name, 4)
        assert len(protocol.folds) == expected
    assert (
        build_protocol("random-clips", clips, seed=1).hash
        != build_protocol("random-clips", clips, seed=2).hash
    )
    with pytest.raises(CorpusError, match="protocol='mine' must be one of official, balanced-speakers"):
        build_protocol("mine", clips)
