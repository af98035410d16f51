from pathlib import Path

import pytest

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import EMOTIONS, apply_label_map, ordered_labels, select_labels
from wavshap_lightning.errors import CorpusError

CLIPS = [Clip(Path(f"{index}.wav"), label) for index, label in enumerate(["exc", "sad", "hap", "xxx", "sad"])]


def test_a_map_renames_merges_and_leaves_out_in_order():
    mapped = apply_label_map(
        CLIPS, {"exc": "happy", "hap": "happy", "sad": "sad", "xxx": None, "unused": "bored"}
    )
    assert [(clip.path.stem, clip.label) for clip in mapped] == [
        ("0", "happy"),
        ("1", "sad"),
        ("2", "happy"),
        ("4", "sad"),
    ]


def test_a_map_that_lacks_a_label_lists_found_and_missing():
    with pytest.raises(
        CorpusError, match=r"lacks labels=\['hap', 'xxx'\]; found exc \(1\), hap \(1\), sad \(2\), xxx \(1\)"
    ):
        apply_label_map(CLIPS, {"exc": "happy", "sad": "sad"})


def test_selection_keeps_the_clips_of_the_labels():
    assert [clip.path.stem for clip in select_labels(CLIPS, ["hap", "sad"])] == ["1", "2", "4"]


@pytest.mark.parametrize("labels", [[], ["sad", "bored"], ["sad", "sad"]])
def test_a_selection_that_cannot_be_made_is_refused(labels):
    with pytest.raises(CorpusError, match=r"must name each wanted class once.*found exc \(1\)"):
        select_labels(CLIPS, labels)


def test_labels_are_ordered_as_emotions():
    assert len(set(EMOTIONS)) == len(EMOTIONS)
    assert ordered_labels(["zeal", "angry", "awe", "neutral", "angry"]) == ("neutral", "angry", "awe", "zeal")
