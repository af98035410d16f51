"""Corpora that a run asks for are made in the cache, and what is amiss with them is said."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.training.corpus_run import select_clips
from wavshap_lightning.training.data.preparation import list_clips

OPTIONS = {
    "source": "folders",
    "source_options": {"speaker_pattern": "/(?P<speaker>[a-z])_"},
    "labels": ["neutral", "sad"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three people who hum, and one file of noise."""
    folder = tmp_path_factory.mktemp("hums")
    time_s = np.arange(20_000) / 16_000
    for who, take in product("abc", range(2)):
        hum = sum(np.sin(2 * np.pi * (130 + 20 * take) * k * time_s) / k for k in range(1, 9))
        save_audio(folder / f"calm/{who}_{take}.wav", 0.1 * hum * (1 + 0.3 * np.sin(9 * time_s)))
    noise = 0.1 * np.random.default_rng(0).uniform(-1, 1, 16_000)
    save_audio(folder / "calm/a_noise.wav", noise)
    return str(folder)


def listed(root, cache, **options):
    return list_clips("planted_in", root, {**OPTIONS, **options}, cache)


def test_cues_are_planted_once_for_each_setting_and_what_is_left_out_is_said(root, tmp_path):
    with pytest.warns(UserWarning, match=r"(?s)1 of 7 recordings are left out.*a_noise.wav: .*sources.csv"):
        first = listed(root, tmp_path)
    assert {clip.label for clip in first} == {"neutral", "sad"}
    assert len(first) == 6
    before = {clip.path: clip.path.stat().st_mtime_ns for clip in first}
    with pytest.warns(UserWarning, match="left out"):  # whoever comes later is told too
        assert listed(root, tmp_path) == first
    assert {clip.path: clip.path.stat().st_mtime_ns for clip in first} == before
    with pytest.warns(UserWarning, match="left out"):
        assert not {clip.path for clip in listed(root, tmp_path, seed=1)} & before.keys()


def test_the_clips_that_test_can_be_explained(root, tmp_path):
    with pytest.warns(UserWarning, match="left out"):
        chosen = select_clips("planted-in", root, OPTIONS, trained={}, cache_directory=tmp_path)
    explained = [chosen.clips[position] for position in chosen.positions]
    assert {clip.split for clip in explained} == {"test"}
    assert chosen.description == "the test clips of planted-in (planted-in-folders-official, official)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": None}, "corpus='planted-in' needs a source"),
        ({"source_label": "calm"}, "unexpected keyword argument 'source_label'.*see PlantedInSettings"),
        ({"source_labels": "bored"}, r"source_labels=\['bored'\] must name each wanted class once"),
        ({"source_options": {}}, "7 of 7 recordings name none"),
        ({"labels": ["neutral", "disgust"]}, "labels=.*disgust.* must be two or more"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(root, tmp_path, options, message):
    with pytest.raises((SettingError, CorpusError), match=message):
        listed(root, tmp_path, **options)


def test_a_folder_already_made_is_known_and_can_be_read_as_a_manifest(root, tmp_path):
    with pytest.warns(UserWarning, match="left out"):
        made = listed(root, tmp_path)
    folder = made[0].path.parents[1]
    with pytest.raises(
        SettingError, match=f"already made, corpus=manifest and root={re.escape(str(folder))}/man"
    ):
        listed(str(folder), tmp_path, source=None)
    assert list_clips("manifest", f"{folder}/manifest.jsonl", None, tmp_path) == made
    with pytest.raises(SettingError, match=r"source: ravdess$"):
        listed(root, tmp_path, source=None)


def test_where_the_recordings_lie_has_to_be_said(tmp_path):
    with pytest.raises(SettingError, match="root=None: corpus='planted-in' needs its folder"):
        listed(None, tmp_path)
