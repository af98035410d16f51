"""Two classifiers on one clip: differences are differences, and their intervals cover."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from wavshap_lightning.errors import AttributionError, SettingError
from wavshap_lightning.explainer.compare import (
    Comparison,
    agreement_of,
    check_comparable,
    compare,
    plain_comparisons,
)
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier

VIEWS = ("frames", "layers", "waveform")


@pytest.fixture(scope="module")
def rival(classifier):
    """The same backbone, a head that differs a little."""
    return _with_other_head(classifier, 0.05)


@torch.no_grad()
def _with_other_head(classifier, size, labels=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        other = EmotionClassifier(
            classifier.backbone, labels or classifier.labels, classifier.head.settings
        ).eval()
        other.head.load_state_dict(classifier.head.state_dict())
        for parameter in other.head.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return other


def compared(classifier, rival, clip, target="happy", **settings):
    explainer = Explainer(classifier, ExplainSettings(**{"stages": VIEWS, "num_draws": 16, **settings}))
    return compare(explainer, rival, clip, explainer.explain(clip, target))


@pytest.fixture(scope="module")
def found(classifier, rival, clip):
    return compared(classifier, rival, clip)


def test_each_side_is_what_a_run_of_its_own_finds(found, rival, clip):
    alone = Explainer(rival, ExplainSettings(stages=VIEWS, num_draws=16)).explain(clip, "happy")
    for (path, view), difference in found.differences.items():
        assert difference.paired
        torch.testing.assert_close(
            difference.second.values[0], alone.values(path, view), rtol=1e-3, atol=1e-5, msg=f"{path} {view}"
        )
        torch.testing.assert_close(
            difference.first.values[0], found.first.values(path, view), rtol=1e-3, atol=1e-5
        )


def test_differences_sum_to_the_difference_of_what_is_explained(found):
    for (path, _), difference in found.differences.items():
        explained = [
            one.attributions[path].score[0] - one.attributions[path].mean_baseline_score[0]
            for one in (found.first, found.second)
        ]
        assert float(difference.values.sum()) == pytest.approx(explained[1] - explained[0], abs=1e-3)


def test_a_classifier_and_itself_do_not_differ(classifier, clip):
    for difference in compared(classifier, classifier, clip, num_draws=8).differences.values():
        assert not difference.values.any()
        assert not difference.half_width.any()


def test_what_chance_does_to_both_is_no_part_of_the_interval(found):
    for difference in found.differences.values():
        apart = (difference.first.half_width()[0] ** 2 + difference.second.half_width()[0] ** 2).sqrt()
        assert float(difference.half_width.norm()) < 0.5 * float(apart.norm())


@pytest.mark.slow
def test_intervals_of_the_difference_cover_it(classifier, rival, clip):
    settings = {"stages": ("frames",), "score": "logit"}
    true = compared(classifier, rival, clip, num_draws=256, seed=99, **settings).differences[
        "frames", "frames"
    ]
    inside = []
    for seed in range(4):
        one = compared(classifier, rival, clip, num_draws=16, seed=seed, **settings).differences
        off = (one["frames", "frames"].values - true.values).abs()
        inside.append(off <= one["frames", "frames"].half_width + true.half_width)
    assert float(torch.cat(inside).double().mean()) > 0.88


def test_other_backbones_have_intervals_as_if_independent(classifier, build_classifier, clip):
    other = build_classifier("group")
    differences = compared(classifier, other, clip).differences
    assert {path for (path, _), one in differences.items() if one.paired} == {"waveform"}
    one = differences["frames", "frames"]
    expected = (one.first.half_width()[0] ** 2 + one.second.half_width()[0] ** 2).sqrt()
    torch.testing.assert_close(one.half_width, expected)


def test_methods_without_chance_have_no_interval(classifier, rival, clip):
    found = compared(classifier, rival, clip, method="integrated_gradients", num_baselines=1)
    assert all(one.half_width is None for one in found.differences.values())


def test_of_several_targets_the_prediction_is_compared(classifier, rival, clip):
    found = compared(classifier, rival, clip, "all", stages=("frames",), num_draws=4)
    assert found.target == found.first.prediction


def test_a_class_that_the_second_lacks_is_refused(classifier, clip):
    other = _with_other_head(classifier, 0.0, ("angry", "calm", "sad"))
    with pytest.raises(AttributionError, match="angry, calm, sad"):
        compared(classifier, other, clip, num_draws=2, stages=("frames",))


def test_other_frames_are_refused(classifier, clip):
    from wavshap_lightning.models.backbone import SpeechBackbone

    with torch.random.fork_rng(devices=[]):
        tiny = EmotionClassifier(SpeechBackbone("tiny"), classifier.labels).eval()
    with pytest.raises(SettingError, match="have different frames"):
        compared(classifier, tiny, clip, num_draws=2, stages=("frames",))


@pytest.mark.parametrize(("count", "family"), [(3, "noise"), (9, "other_clips")])
def test_both_have_the_baselines_that_the_first_chose(build_classifier, clip, count, family):
    first, second = (build_classifier(labels=("arousal", "valence"), task="dimensions") for _ in range(2))
    with torch.no_grad():
        second.head.mlp[-1].weight.mul_(1.5)
    explainer, recordings = (
        Explainer(first, ExplainSettings(num_draws=9)),
        [clip.roll(90 * n) for n in range(count)],
    )
    explanation = explainer.explain(clip, recordings=recordings)
    found = compare(explainer, second, clip, explanation, recordings=recordings)
    assert found.first.settings.baselines == found.second.settings.baselines == family
    difference = found.differences["layers", "frames"]
    torch.testing.assert_close(
        difference.first.values[0], explanation.frame_values("arousal"), rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(difference.values, 0.5 * difference.first.values[0], rtol=1e-3, atol=1e-5)


def test_models_without_a_common_label_are_refused(classifier):
    other = _with_other_head(classifier, 0.0, ("bored", "calm", "tired"))
    with pytest.raises(SettingError, match=r"of classes \(.*\) and of classes \(bored, calm, tired\)"):
        check_comparable(classifier, other)


def test_agreement_is_about_the_frames_of_the_clip(found, tmp_path):
    """Of the stage that is resolved in time, with the `k` and the survival of each model's reliability."""
    both = (found.first, found.second)
    agreed = agreement_of(both)
    ranked = [one.reliability() for one in both]
    assert agreed["k"] == ranked[0].k
    assert agreed["survival"] == pytest.approx(sum(one.survival for one in ranked) / 2)
    tops = [{row["frame"] for row in one.top("frames", agreed["k"])} for one in both]
    assert agreed["shared"] == len(tops[0] & tops[1]) / agreed["k"]
    assert {n for n, count in enumerate(agreed["counts"]) if count == 2} == tops[0] & tops[1]
    assert plain_comparisons([found], ["1", "2"])["agreement"] == agreed
    replace(found.first, agreement=agreed).save(tmp_path / "clip.safetensors")
    assert Explanation.load(tmp_path / "clip.safetensors").to_dict()["agreement"] == agreed


def test_explanations_without_frames_in_common_have_no_agreement(classifier, rival, clip):
    explained = {
        stages: [
            explain(one, clip, target="happy", stages=[stages], num_draws=2) for one in (classifier, rival)
        ]
        for stages in ("frames", "waveform", "layers")
    }
    for first, own in explained.items():
        assert agreement_of(own)["num_models"] == 2
        others = [found[1] for stage, found in explained.items() if stage != first]
        assert all(agreement_of([own[0], other]) is None for other in others)


def test_as_plain_values(found):
    plain = json.loads(json.dumps(plain_comparisons([found], ["1", "2"]), allow_nan=False))
    assert plain["target"] == "happy"
    assert plain["stages"]["waveform"].keys() == {"frames", "bands"}
    frames = plain["stages"]["frames"]["frames"]
    assert len(frames["start_s"]) == len(frames["first"]) == len(frames["others"][0]["difference"])
    first, second = plain["models"]
    assert (first["model"], second["model"]) == ("1", "2")
    assert first["fingerprint"] != second["fingerprint"]


def test_several_are_told_by_name_each_against_the_first(classifier, rival, build_classifier, clip, found):
    """One with other weights and fewer layers is told where it can be."""
    far = _with_other_head(classifier, 0.2)
    explainer = Explainer(classifier, ExplainSettings(stages=VIEWS, num_draws=16))
    other = compare(explainer, far, clip, found.first)
    short = Comparison(
        other.first, other.second, "happy", {("frames", "frames"): other.differences["frames", "frames"]}
    )
    plain = plain_comparisons([found, other, short], ["a", "b", "c", "d"])
    assert [model["model"] for model in plain["models"]] == ["a", "b", "c", "d"]
    frames, layers = plain["stages"]["frames"]["frames"], plain["stages"]["layers"]["layers"]
    for row, comparison in zip(frames["others"], (found, other, short), strict=True):
        expected = comparison.differences["frames", "frames"].values.tolist()
        assert row["difference"] == expected
        assert torch.tensor(row["attribution"]) - torch.tensor(frames["first"]) == pytest.approx(
            torch.tensor(expected), abs=1e-4
        )
    assert layers["others"][2] is None


def test_all_draws_are_those_of_the_first(classifier, rival, clip):
    """What the first is found to hear does not depend on whom it is compared with, nor on a tolerance."""
    explainer = Explainer(classifier, ExplainSettings(stages=("frames",), tolerance=0.5, num_draws=64))
    one = compare(explainer, rival, clip, explainer.explain(clip, "happy"))
    other = compare(explainer, _with_other_head(classifier, 0.2), clip, one.first)
    assert other.first is one.first
    firsts = [found.differences["frames", "frames"].first.values for found in (one, other)]
    torch.testing.assert_close(*firsts, rtol=1e-4, atol=1e-6)
