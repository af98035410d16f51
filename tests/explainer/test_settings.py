"""Settings are plain, checked, and survive JSON and YAML."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from wavshap_lightning.errors import AttributionError, SettingError
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.targets import target_named, target_names

pytestmark = pytest.mark.usefixtures("unchecked_types")


def test_they_survive_json():
    settings = ExplainSettings(
        stages=["waveform"], tolerance=0.1, segments=[[0.0, 0.5], [0.5, 1.0]], precision="bf16", layer=None
    )
    assert ExplainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert settings.stages == ("waveform",)
    assert hash(settings) == hash(ExplainSettings.from_dict(settings.to_dict()))


def test_one_view_may_be_named_without_a_list():
    assert ExplainSettings(stages="layers").stages == ("layers",)


def test_the_defaults():
    settings = ExplainSettings()
    assert (settings.stages, settings.baselines, settings.score) == (("auto",), "auto", "log_odds")
    assert settings.num_baselines is None


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"stages": []}, r"stages=\(\) must name at least one of frames, layers, waveform"),
        ({"stages": ["frames", "when"]}, r"stages='when' must be one of auto, frames, layers, waveform"),
        ({"stages": ["frames", "frames"]}, r"stages=\['frames', 'frames'\] names a stage twice"),
        ({"stages": ["auto", "layers"]}, r"stages=\['auto', 'layers'\]: auto stands alone; leave it out"),
        ({"method": "lrp"}, r"method='lrp' must be one of gradient_shap, .*, lime"),
        (
            {"method": "lime", "stages": ["layers"]},
            r"method='lime' removes spans of frames; use stages=\['frames'\]",
        ),
        ({"num_spans": 4}, r"num_spans=4 needs a method that removes spans: one of occlusion, shapley"),
        (
            {"method": "shapley", "stages": "frames", "num_spans": 4, "segments": [(0, 1)]},
            "num_spans=4, segments: leave one out",
        ),
        ({"score": "margin"}, r"score='margin' must be one of log_odds, logit"),
        ({"baselines": "zeros"}, r"baselines='zeros' must be one of auto, noise, .*, silence, other_clips"),
        ({"precision": "fp16"}, r"precision='fp16' must be one of fp32, bf16"),
        ({"num_draws": 0}, r"num_draws=0 must be a whole number of at least 1"),
        ({"num_draws": 6.5}, r"num_draws=6.5 must be a whole number"),
        ({"num_baselines": -1}, r"num_baselines=-1 must be a whole number of at least 1"),
        ({"chunk_size": 0}, r"chunk_size=0 must be"),
        ({"seed": -1}, r"seed=-1 must be a whole number of at least 0"),
        ({"seed": True}, r"seed=True must be a whole number"),
        ({"layer": -1}, r"layer=-1 must be a whole number of at least 0"),
        ({"num_bands": 300}, r"num_bands=300 must be at most 257"),
        ({"tolerance": 0.0}, r"tolerance=0.0 must be a number greater than 0"),
        ({"max_seconds": float("nan")}, r"max_seconds=nan must be a number greater than 0"),
        ({"stages": None}, r"stages=None must be a list of some of frames, layers, waveform"),
        ({"seed": None}, r"seed=None must be a whole number of at least 0"),
        ({"seed": 2**63}, r"seed=9223372036854775808 must be at most 2\^63 - 1"),
        ({"num_bands": None}, r"num_bands=None must be a whole number"),
        ({"tolerance": "0.05"}, r"tolerance='0.05' must be a number greater than 0"),
        ({"segments": (0.0, 0.5)}, r"segments=\(0.0, 0.5\) must be a list of spans .* even of one"),
        ({"segments": 3}, r"segments=3 must be a list of spans"),
        ({"segments": ["ab"]}, r"segments=\['ab'\] must be a list of spans"),
        ({"segments": [(0.5, 0.2)]}, r"segments=\[\(0.5, 0.2\)\] must be a list of spans"),
        ({"segments": [(0.0, 1.0, 2.0)]}, r"segments=\[\(0.0, 1.0, 2.0\)\] must be a list of spans"),
        ({"segments": [(0.0, 1.0), (0.5, 2.0)]}, r"segments: \(0.0, 1.0\) and \(0.5, 2.0\) must be in order"),
        ({"decibels": True}, r"decibels=True does not go with method='gradient_shap'"),
        ({"layer": 1, "stages": ["frames"]}, r"layer=1 needs stages with 'layers'"),
        ({"method": "saliency", "tolerance": 0.1}, r"max_seconds: method='saliency' has no standard error"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_remedy(wrong, complaint):
    with pytest.raises(SettingError, match=complaint):
        ExplainSettings(**wrong)


def test_numbers_of_numpy_are_numbers():
    settings = ExplainSettings()
    object.__setattr__(settings, "num_draws", np.int64(8))  # the tests' own check of arguments wants an int
    settings.__post_init__()
    assert type(settings.num_draws) is int


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(SettingError, match=r"steps=3: there is no such setting; use stages, method, score"):
        ExplainSettings.from_dict({"steps": 3})


LABELS = ["angry", "happy", "sad", "happy-vs-sad", "all"]


@pytest.mark.parametrize(
    ("name", "kind", "classes", "against"),
    [
        ("predicted", "logit", (2,), None),
        ("angry", "logit", (0,), None),
        ("angry-vs-happy", "margin", (0,), 1),
        ("happy-vs-sad", "logit", (3,), None),
        ("all", "logit", (4,), None),
        ("second", "logit", (0,), None),
        ("predicted-vs-second", "margin", (2,), 0),
        ("listeners", "margin", (1,), 3),
        ("happy-vs-sad-vs-angry", "margin", (3,), 0),
    ],
)
def test_targets_by_name(name, kind, classes, against):
    target = target_named(name, LABELS, "logit", ranking=[2, 0, 1], choices=[1, 3, 0])
    assert (target.kind, target.classes, target.against) == (kind, classes, against)


def test_a_label_takes_precedence_over_a_name_that_stands_for_one():
    labels = ["second", "listeners", "predicted"]
    for index, name in enumerate(labels):
        target = target_named(name, labels, "log_odds", ranking=[2, 1, 0], choices=[2, 1])
        assert target.classes == (index,)


@pytest.mark.parametrize("choices", [[], [1]])
def test_a_margin_of_the_listeners_needs_votes_for_two_classes(choices):
    voted = "angry" if choices else "none"
    with pytest.raises(AttributionError, match=rf"'listeners' needs votes for two .* are for {voted}$"):
        target_named("listeners", ["sad", "angry"], "log_odds", ranking=[0, 1], choices=choices)


def test_a_single_label_has_no_second():
    with pytest.raises(AttributionError, match=r"'second' is not a label of .* use one, 'predicted', 'all'$"):
        target_named("second", ["angry"], "logit", ranking=[0], choices=[0])


def test_all_classes_where_no_label_reads_so():
    target = target_named("all", ["a", "b"], "log_odds")
    assert target_names(target, ["a", "b"]) == ("a", "b")


@pytest.mark.parametrize(
    "name",
    ["", "Angry", "angry-vs-", "angry-vs-joy", "angry-vs-angry-vs-sad", "sad-vs-sad", 1, None, [], [["sad"]]],
)
def test_no_target(name):
    with pytest.raises(AttributionError, match="is not a label of this classifier; labels are angry, happy"):
        target_named(name, LABELS, "logit", ranking=[0, 1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "occlusion", "stages": "frames"}, "method='occlusion' needs the stage frames"),
        ({"layer": 3}, "layer=3 needs the stage layers"),
    ],
)
def test_what_needs_a_stage_that_a_model_lacks_is_told(given, said):
    with pytest.raises(SettingError, match=f"^{said}, and this model has waveform alone; leave it out$"):
        ExplainSettings(**given).within(["waveform"])


def test_settings_are_read_without_torch():
    """The help of a command line is there at once."""
    code = (
        "import sys, wavshap_lightning.explainer.settings; print({'torch', 'transformers'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


def test_a_target_is_found_in_another_unicode_form():
    labels = ["A\u0308rger", "sad"]
    expected = target_named("sad-vs-\u00c4rger", labels, "log_odds")
    assert expected == target_named("sad-vs-A\u0308rger", ["\u00c4rger", "sad"], "log_odds")
    assert target_named("\u00c4rger", labels, "log_odds").classes == (0,)
