"""The record: what it answers, and that it survives being saved."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from wavshap_lightning.audio.segments import Segment, voiced_segments
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.diagnostics import attribution_shares
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import open_recording
from wavshap_lightning.explainer.settings import ExplainSettings


@pytest.fixture(scope="session")
def all_classes(classifier, clip):
    return explain(classifier, clip, target="all", stages=("frames", "layers"), num_draws=16)


def test_save_and_load(three_paths, tmp_path):
    three_paths.save(tmp_path / "found.safetensors")
    again = Explanation.load(tmp_path / "found.safetensors")
    again.save(tmp_path / "again.safetensors")
    first, second = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("found", "again"))
    assert first == second
    assert again.settings == three_paths.settings
    assert again.times == three_paths.times
    assert list(again.attributions) == list(three_paths.attributions)
    assert again.to_dict() == three_paths.to_dict()
    assert torch.equal(again.values("layers", "layer_neuron"), three_paths.values("layers", "layer_neuron"))


@pytest.mark.filterwarnings("ignore:.*units are not resolved")
@pytest.mark.parametrize(
    "settings",
    [
        {"tolerance": 1e-6, "num_draws": 8},
        {"num_draws": 1},
        {"method": "saliency"},
        {"segments": [(0.0, 0.3)]},
    ],
    ids=str,
)
def test_every_field_of_the_attributions_is_read_again(settings, classifier, clip, tmp_path):
    found = explain(classifier, clip, target="all", stages=("frames", "layers"), **settings)
    found.save(tmp_path / "deep" / "found")
    again = Explanation.load(tmp_path / "deep" / "found")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["found"]
    for stage, one in found.attributions.items():
        for name, before in vars(one).items():
            after = getattr(again.attributions[stage], name)
            if name == "views":
                assert [*before] == [*after]
                for view in before:
                    assert same(before[view].values, after[view].values)
                    assert same(before[view].stderr, after[view].stderr)
                    assert before[view].degrees_of_freedom == after[view].degrees_of_freedom
            else:
                assert same(before, after), name


def half_widths_of(found, stage, view):
    return found.attributions[stage].views[view].half_width()[0]


def same(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_a_damaged_or_foreign_file(three_paths, tmp_path):
    path = tmp_path / "found.safetensors"
    three_paths.save(path)
    whole = path.read_bytes()
    foreign = safetensors.torch.save({"a": torch.zeros(2)})
    for content in (
        whole[:-9],
        whole[:100],
        b"",
        b"not a record",
        foreign,
        whole.replace(b"gradient_shap", b"gradient_sham"),
        whole.replace(b'\\"format\\": 2', b'\\"format\\": 9'),
    ):
        path.write_bytes(content)
        with pytest.raises(AttributionError, match=r"path=.*found.safetensors is not a saved explanation"):
            Explanation.load(path)
    with pytest.raises(AttributionError, match="nowhere is not a saved explanation"):
        Explanation.load(tmp_path / "nowhere")


def test_top_frames_are_the_strongest_with_their_times_and_intervals(three_paths):
    values, half_widths = (
        three_paths.values("frames", "frames"),
        half_widths_of(three_paths, "frames", "frames"),
    )
    first, second = three_paths.top("frames", 2)
    index, times = int(values.abs().argmax()), three_paths.times["frames"]
    assert first["frame"] == index
    assert (first["start_s"], first["end_s"]) == (times.start_s()[index], times.end_s()[index])
    assert (first["attribution"], first["half_width"]) == (float(values[index]), float(half_widths[index]))
    assert abs(first["attribution"]) >= abs(second["attribution"])
    assert first["end_s"] - first["start_s"] == pytest.approx(80 / 16_000)
    (span,) = three_paths.top("frames", 1, stage="waveform")
    assert span["end_s"] - span["start_s"] == pytest.approx(40 / 16_000)
    assert len(three_paths.top("frames", 1000)) == times.count


def test_signs(three_paths):
    assert all(frame["attribution"] > 0 for frame in three_paths.top("frames", 50, sign="positive"))
    assert all(frame["attribution"] < 0 for frame in three_paths.top("frames", 50, sign="negative"))


def test_frames_and_neurons_of_a_layer(three_paths):
    (frame,) = three_paths.top("layer_frame", 1, layer=2)
    assert frame["layer"] == 2
    assert abs(frame["attribution"]) == float(three_paths.values("layers", "layer_frame")[2].abs().max())
    neurons = three_paths.top("layer_neuron", 3, layer=1)
    sums = three_paths.values("layers", "layer_neuron")[1]
    order = sums.abs().argsort(descending=True, stable=True)[:3].tolist()
    assert [(one["layer"], one["neuron"]) for one in neurons] == [(1, neuron) for neuron in order]
    assert [one["attribution"] for one in neurons] == sums[order].tolist()


def test_top_layers(three_paths):
    layers = three_paths.top("layers", 10)
    assert sorted(one["layer"] for one in layers) == [0, 1, 2]
    assert sum(one["attribution"] for one in layers) == pytest.approx(
        float(three_paths.attributions["layers"].sums("layers"))
    )


def test_the_strongest_cells_of_a_map_have_their_band_and_time(three_paths):
    (cell,) = three_paths.top("band_frame", 1)
    values = three_paths.values("waveform", "band_frame")
    assert cell["attribution"] == float(values[cell["band"], cell["frame"]])
    assert abs(cell["attribution"]) == float(values.abs().max())
    assert cell["low_hz"] == three_paths.band_edges_hz[cell["band"]]
    assert cell["start_s"] == three_paths.times["stft"].start_s()[cell["frame"]]


COLUMNS = {
    "frames": "start_s end_s frame",
    "segments": "start_s end_s segment",
    "bands": "low_hz high_hz band",
    "band_frame": "low_hz high_hz band start_s end_s frame",
    "layers": "layer",
    "layer_frame": "layer start_s end_s frame",
    "layer_neuron": "layer neuron",
    "layer_1": "start_s end_s frame neuron",
}


@pytest.mark.parametrize("view", COLUMNS)
def test_a_table_has_a_row_for_each_unit_with_its_place_and_error(view, three_paths):
    table = three_paths.to_columns(view)
    assert " ".join(table) == f"{COLUMNS[view]} attribution stderr half_width"
    stage = next(one for one, found in three_paths.attributions.items() if view in found.views)
    assert table["attribution"].tolist() == three_paths.values(stage, view).flatten().tolist()
    assert table["half_width"].tolist() == half_widths_of(three_paths, stage, view).flatten().tolist()
    assert len({len(column) for column in table.values()}) == 1


def test_an_error_that_no_method_knows_is_no_number_in_a_table(classifier, clip):
    table = explain(classifier, clip, method="saliency", stages=["frames"]).to_columns()
    assert np.isnan(table["stderr"]).all()
    assert np.isnan(table["half_width"]).all()


def test_the_table_of_pandas_is_that_of_the_columns(three_paths):
    pytest.importorskip("pandas")
    table, columns = three_paths.to_frame("band_frame"), three_paths.to_columns("band_frame")
    assert list(table.columns) == list(columns)
    strongest = table.loc[table["attribution"].abs().idxmax()]
    assert dict(strongest) == three_paths.top("band_frame", 1)[0]


def test_without_pandas_its_table_says_how_to_get_it(three_paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(AttributionError, match="pip install pandas"):
        three_paths.to_frame()


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda found: found.top("frames", 0), r"k=0 must be at least 1"),
        (
            lambda found: found.top("frames", 1, stage="waveform"),
            r"stage='waveform' was not explained; .* frames, layers",
        ),
        (
            lambda found: found.top("layer_frame", 1, layer=3),
            r"layer=3: view='layer_frame' has no such layer",
        ),
        (
            lambda found: found.values("layers", "layer_1"),
            r"view='layer_1' does not exist; stage='layers' has frames, layer_fr",
        ),
        (lambda found: found.top("frames", layer=1), r"layer=1: view='frames' has no such layer"),
        (lambda found: found.top("frames", sign="both"), r"sign='both' must be one of any, positive"),
        (
            lambda found: found.top("frames", 1, target="joy"),
            r"target='joy' was not explained; use one of angry",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_what_was_not_explained(ask, complaint, all_classes):
    with pytest.raises(AttributionError, match=complaint):
        ask(all_classes)


def test_of_some_targets_without_the_prediction_the_first_is_meant(classifier, clip, all_classes):
    others = [label for label in classifier.labels if label != all_classes.prediction]
    found = explain(classifier, clip, target=others, stages=("layers",), num_draws=4)
    assert found.to_saved_clip().numbers["target"] == found.default_target == others[0]


def test_of_several_targets_the_prediction_is_meant_unless_another_is_named(all_classes):
    values = all_classes.values("frames", "frames", all_classes.prediction)
    assert torch.equal(all_classes.values("frames", "frames"), values)
    other = next(label for label in all_classes.labels if label != all_classes.prediction)
    assert not torch.equal(all_classes.values("frames", "frames", other), values)


def test_the_prediction_may_be_asked_for_by_that_word(all_classes):
    expected = all_classes.values("frames", "frames", all_classes.prediction)
    assert torch.equal(all_classes.values("frames", "frames", "predicted"), expected)


def test_the_gap_of_each_path(three_paths):
    gaps = three_paths.relative_gap()
    assert gaps.keys() == three_paths.attributions.keys()
    for path, found in three_paths.attributions.items():
        explained = max(abs(found.score[0] - found.mean_baseline_score[0]), found.baseline_score_std[0])
        assert gaps[path] == pytest.approx(abs(found.gap[0]) / explained)


def test_it_is_told_in_a_line(three_paths):
    assert repr(three_paths) == (
        f"Explanation(clip='', duration_s=0.119, prediction={three_paths.prediction!r} "
        f"({three_paths.probabilities[three_paths.prediction]:.0%}), targets=('happy',), "
        "stages=('frames', 'layers', 'waveform'))"
    )


def test_plain_numbers(three_paths):
    plain = json.loads(json.dumps(three_paths.to_dict(), allow_nan=False))
    assert plain["target"] == "happy"
    assert plain["prediction"] == three_paths.prediction
    assert sum(plain["probabilities"].values()) == pytest.approx(1)
    assert (
        len(plain["frames"]["start_s"])
        == len(plain["frames"]["attribution"])
        == len(plain["frames"]["stderr"])
    )
    assert sum(plain["layers"]["attribution"]) == pytest.approx(plain["stages"]["layers"]["attribution_sum"])
    assert plain["bands"]["high_hz"][-1] == 8000.0
    assert len(plain["bands"]["low_hz"]) == len(plain["bands"]["attribution"]) == 24
    assert [(row["start_s"], row["end_s"]) for row in plain["segments"]] == [(0.0, 0.05), (None, None)]
    assert plain["stages"]["frames"]["relative_gap"] < 0.05
    assert sum(plain["shares"].values()) == pytest.approx(1)
    assert plain["settings"]["num_baselines"] == 8


def test_what_is_not_known_after_one_draw_is_none_among_plain_numbers(classifier, clip):
    plain = explain(classifier, clip, stages=("frames",), num_draws=1).to_dict()
    assert set(plain["frames"]["stderr"]) == {None}
    json.dumps(plain, allow_nan=False)


def test_shares_tell_speech_pauses_and_edges_apart():
    level_db = torch.tensor([-80.0, -20.0, -60.0, -25.0, -90.0, -91.0])
    shares = attribution_shares(torch.tensor([1.0, -2.0, 3.0, 2.0, 1.0, -1.0]), level_db)
    assert shares == {"speech": 0.4, "pause": 0.3, "edges": 0.3}
    assert attribution_shares(torch.zeros(6), level_db) == {"speech": 0.0, "pause": 0.0, "edges": 0.0}


def test_a_pause_is_one_for_shares_and_for_segments():
    """In a noisy room, where pauses are 26 dB softer than speech."""
    loudness = np.repeat([0.005, 0.1, 0.005, 0.1], 4000)
    waveform = loudness * np.random.default_rng(0).standard_normal(len(loudness))
    segments = voiced_segments(waveform, 16_000)
    assert [one.text for one in segments] == ["pause", "speech", "pause", "speech"]
    level_db = torch.from_numpy(20 * np.log10(loudness[100::200]))
    shares = attribution_shares(torch.ones(len(level_db)), level_db)
    assert shares == {"speech": 0.5, "pause": 0.25, "edges": 0.25}


@pytest.fixture(scope="session")
def spoken(classifier, clip):
    """Two words, the second in doubt, with three phones; the settings have the same words as segments."""
    recording = open_recording(clip, classifier.backbone.frame_grid)
    first, last = Segment("pause", 0.0, 0.02), Segment("pause", 0.09, recording.duration_s)
    words = [first, Segment("oh", 0.02, 0.06, 0.9), Segment("no", 0.06, 0.09, 0.2), last]
    phones = [first, Segment("OW", 0.02, 0.06), Segment("N", 0.06, 0.07), Segment("OW", 0.07, 0.09), last]
    tiers = {"words": words, "phones": phones}
    spans = [(one.start_s, one.end_s) for one in tiers["words"]]
    settings = ExplainSettings(("frames", "layers"), num_draws=8, segments=spans)
    return Explainer(classifier, settings).explain(replace(recording, tiers=tiers), "happy")


@pytest.mark.parametrize("stage", ["frames", "layers"])
def test_words_and_phones_with_their_pauses_sum_to_the_whole(stage, spoken):
    total = spoken.values(stage, "frames").sum()
    for tier in ("words", "phones"):
        assert torch.allclose(spoken.values(stage, tier).sum(), total)
    phones, words = spoken.values(stage, "phones"), spoken.values(stage, "words")
    # The completeness gap is distributed in each view by its own errors.
    gap = abs(spoken.attributions[stage].gap[0])
    assert torch.allclose(phones[2] + phones[3], words[2], atol=gap)


def test_the_error_of_a_word_is_that_of_its_sum_over_the_same_draws(spoken):
    view = spoken.attributions["frames"].views
    assert torch.equal(view["words"].stderr, view["segments"].stderr)  # the same spans
    independent = view["phones"].stderr[0, 2:4].norm()
    assert not torch.isclose(view["words"].stderr[0, 2], independent, rtol=0.01)


def test_words_have_texts_times_and_confidence_and_are_saved(spoken, tmp_path):
    table = spoken.to_columns("words")
    assert table["text"].tolist() == ["pause", "oh", "no", "pause", ""]
    assert np.allclose(table["confidence"], [np.nan, 0.9, 0.2, np.nan, np.nan], equal_nan=True)
    plain = spoken.to_dict()
    assert plain["words"]["start_s"][:2] == [0.0, 0.02]
    assert plain["words"]["start_s"][-1] is None
    assert plain["reliability"].keys() == {"frames", "layers", "segments", "words", "phones"}
    spoken.save(tmp_path / "found.safetensors")
    assert Explanation.load(tmp_path / "found.safetensors").tiers == spoken.tiers


def test_without_words_nothing_speaks_of_them(three_paths, tmp_path):
    plain = three_paths.to_dict()
    assert not {"words", "phones", "tiers"} & (plain.keys() | plain["reliability"].keys())
    three_paths.save(tmp_path / "found.safetensors")
    assert b'"tiers"' not in (tmp_path / "found.safetensors").read_bytes()
