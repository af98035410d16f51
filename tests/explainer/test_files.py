"""An explained clip on disk says what the explanation says, and reads back as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.files import SavedClip, load_clip, save_clip


@pytest.fixture(scope="module")
def saved(three_paths):
    return three_paths.to_saved_clip(label="sad", texts=["hello"])


def test_maps_are_those_of_the_explanation_and_have_its_sum(saved, three_paths):
    for name, path, view in [
        ("frame_attribution", "frames", "frames"),
        ("layer_frame", "layers", "layer_frame"),
        ("layer_neuron", "layers", "layer_neuron"),
        ("band_frame", "waveform", "band_frame"),
    ]:
        np.testing.assert_array_equal(saved.arrays[name], three_paths.values(path, view).numpy())
        total = saved.numbers["score"] - saved.numbers["stages"][path]["baseline_score"]
        assert saved.arrays[name].sum() == pytest.approx(total)


def test_numbers_hold_the_promised_fields(saved):
    promised = (
        "clip sha256 sample_rate duration_s labels probabilities prediction target method settings score"
    )
    promised += " baseline_score attribution_sum gap frames layers bands segments shares label diagnostics"
    assert set(promised.split()) <= saved.numbers.keys()
    assert saved.numbers["frames"].keys() == {"start_s", "end_s", "attribution", "stderr", "half_width"}
    assert [row["text"] for row in saved.numbers["segments"]] == ["hello", ""]
    assert saved.numbers["segments"][1]["start_s"] is None
    parts = sum(row["attribution"] for row in saved.numbers["segments"])
    assert parts == pytest.approx(saved.numbers["attribution_sum"])


def test_interval_is_wider_than_twice_the_error(saved):
    errors = np.array(saved.numbers["frames"]["stderr"])
    assert (np.array(saved.numbers["frames"]["half_width"]) >= 1.9 * errors).all()
    np.testing.assert_array_equal(saved.arrays["frame_stderr"], errors)


def test_maps_have_their_intervals_beside_them(saved, three_paths):
    for name, path in [("layer_frame", "layers"), ("layer_neuron", "layers"), ("band_frame", "waveform")]:
        half_width = saved.arrays[f"{name}_half_width"]
        np.testing.assert_array_equal(
            half_width, three_paths.attributions[path].views[name].half_width()[0].float().numpy()
        )


def test_round_trip_and_same_bytes(saved, tmp_path):
    save_clip(saved, tmp_path / "a", "clip")
    save_clip(saved, tmp_path / "b", "clip")
    again = load_clip(tmp_path / "a", "clip")
    assert again.numbers == json.loads(json.dumps(saved.numbers))
    assert again.arrays.keys() == saved.arrays.keys()
    for name, array in saved.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    for suffix in ("json", "npz"):
        assert (tmp_path / f"a/clip.{suffix}").read_bytes() == (tmp_path / f"b/clip.{suffix}").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"format": 99}'])
def test_what_is_no_saved_clip_is_refused(content, tmp_path):
    (tmp_path / "clip.json").write_bytes(content)
    with pytest.raises(AttributionError, match=r"clip\.json is not a saved explanation"):
        load_clip(tmp_path, "clip")


def test_an_array_that_carries_code_is_refused(saved, tmp_path):
    save_clip(SavedClip(saved.numbers, {}), tmp_path, "clip")
    np.savez(tmp_path / "clip.npz", bad=np.array([{}], dtype=object))
    with pytest.raises(AttributionError, match="not a saved explanation"):
        load_clip(tmp_path, "clip")


def test_texts_must_fit_the_segments(three_paths):
    with pytest.raises(AttributionError, match="texts: 2 for 1 segments"):
        three_paths.to_saved_clip(texts=["one", "two"])
