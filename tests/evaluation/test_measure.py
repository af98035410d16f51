"""A small classifier is explained and measured, from a file to the scorecard."""

from __future__ import annotations

import math
from copy import copy, deepcopy

import pytest
import torch

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.controls import CONTROLS
from wavshap_lightning.evaluation.measure import LABEL, evenly_spaced, measure, usual_methods
from wavshap_lightning.evaluation.scorecard import METRICS, Scorecard
from wavshap_lightning.evaluation.similarity import randomize
from wavshap_lightning.explainer.settings import ExplainSettings

FEW = {
    name: ExplainSettings(stages=("frames",), method=name, num_draws=draws, num_baselines=1)
    for name, draws in (("gradient_shap", 8), ("saliency", 1), ("kernel_shap", 32))
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    evidence = ((Span(0.02, 0.06),), ())
    made = []
    for index, spans in enumerate(evidence):
        drawn = torch.randn(4000, generator=torch.Generator().manual_seed(index))
        path = folder / f"{index}.wav"
        save_audio(path, (0.1 * drawn).clamp(-1, 1).numpy(), sample_rate=16_000)
        made.append(Clip(path, "sad", evidence=spans))
    return made


@pytest.mark.slow
def test_every_metric_of_every_method_and_control(classifier, clips):
    before, chance = {n: p.clone() for n, p in classifier.state_dict().items()}, torch.get_rng_state()
    other = randomize(classifier, "head", seed=5)
    values = measure(classifier, clips, FEW, target=LABEL, others=[other])
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert list(values) == [*FEW, *CONTROLS]
    everything = {metric.name for metric in METRICS}
    assert {name for of in values.values() for name in of} == everything
    of_ours = values["gradient_shap"]
    assert all(len(column) == 2 for column in of_ours.values())
    assert [math.isnan(value) for value in of_ours["auc"]] == [False, True]
    assert all(math.isfinite(value) for name in everything - {"auc"} for value in of_ours[name][:1])
    of_energy = {name for name, column in values["energy"].items() if not math.isnan(column[0])}
    only_explanations = {"seconds", "gap", "intraclass_correlation", "other_seeds"}
    assert of_energy == everything - only_explanations
    for control in CONTROLS:
        assert values[control]["other_class"] == pytest.approx([1, 1])
        assert min(values[control]["all_redrawn"] + values[control]["head_redrawn"]) > 0.6
    card = Scorecard(values, controls=CONTROLS)
    assert card.num_clips == 2
    assert {row["metric"] for row in card.rows} == everything


def test_of_two_classes_the_maps_are_each_others_opposite(classifier, clips):
    values = measure(classifier, clips[:1], {"gradient_shap": FEW["gradient_shap"]})
    assert values["gradient_shap"]["other_class"] == [pytest.approx(-1)]


def test_only_some_clips_are_checked_for_sanity(classifier, clips):
    methods = {"saliency": FEW["saliency"]}
    values = measure(classifier, clips, methods, sanity_clips=1, others=[classifier])
    assert [math.isnan(value) for value in values["saliency"]["all_redrawn"]] == [False, True]
    assert [math.isnan(value) for value in values["energy"]["all_redrawn"]] == [False, True]
    assert values["saliency"]["other_seeds"][0] == pytest.approx(1)  # the other is the same


@pytest.mark.parametrize(
    ("count", "found"), [(0, set()), (1, {0}), (2, {0, 6}), (7, set(range(7))), (10, set(range(7)))]
)
def test_some_clips_are_evenly_spaced(count, found):
    assert evenly_spaced(count, 7) == found
    assert evenly_spaced(count, 1) == ({0} if count else set())


def test_the_same_seed_measures_the_same_and_a_clip_does_not_know_its_neighbors(classifier, clips):
    methods = {"saliency": FEW["saliency"]}
    both, alone = measure(classifier, clips, methods), measure(classifier, clips[:1], methods)
    for method in (*methods, *CONTROLS):
        for name in alone[method].keys() - {"seconds"}:
            first, second = both[method][name][0], alone[method][name][0]
            assert first == second or (math.isnan(first) and math.isnan(second))


def test_the_usual_methods_are_eight_along_the_frames():
    methods = usual_methods(seed=3)
    assert len(methods) == 8
    assert {settings.seed for settings in methods.values()} == {3}
    assert all(name == settings.method for name, settings in methods.items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": "happy"}, "target='happy' must be 'label' or 'predicted'"),
        (
            {"methods": {"usual": ExplainSettings()}},
            r"methods\['usual'\] has stages=",
        ),
        ({"methods": {"energy": FEW["saliency"]}}, "the name of a control"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(classifier, clips, wrong, message):
    with pytest.raises(SettingError, match=message):
        measure(classifier, clips, **wrong)


def test_clips_that_cannot_be_measured_are_refused(classifier, clips):
    with pytest.raises(SettingError, match="give at least one"):
        measure(classifier, [])
    unknown = Clip(clips[0].path, "happy")
    with pytest.raises(SettingError, match=r"label='happy' is unknown .* angry, sad"):
        measure(classifier, [*clips, unknown], target=LABEL)


def test_other_heads_know_the_same_classes_on_the_same_backbone(classifier, clips):
    turned, other = copy(classifier), deepcopy(classifier)
    turned.labels = ("sad", "angry")
    other.backbone.fingerprint = "0123456789abcdef"
    said = r"others\[1\] must have the classifier's labels \(angry, sad\)"
    for wrong in (turned, other):
        with pytest.raises(SettingError, match=said):
            measure(classifier, clips, others=[classifier, wrong])
