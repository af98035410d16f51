"""The one-liner and its promises: targets, determinism, modes, methods, baselines, limits."""

from __future__ import annotations

import traceback
import warnings
from copy import deepcopy
from dataclasses import fields
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch

import wavshap_lightning
from wavshap_lightning.audio.io import hash_audio_file, save_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AttributionError, AudioError, SettingError
from wavshap_lightning.explainer.diagnostics import diagnose
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stage_attribution import MAX_PRECISION_ERROR, fingerprint, time_shares
from wavshap_lightning.models.backbone import SpeechBackbone, has_bf16
from wavshap_lightning.models.classifier import EmotionClassifier

FEW = {"stages": ["frames"], "num_draws": 8}
BOTH = {"stages": ["frames", "layers"]}


def saved(explanation, folder):
    explanation.save(folder / "found.safetensors")
    return (folder / "found.safetensors").read_bytes()


@pytest.fixture
def recording(clip, tmp_path):
    """The clip as a file, at twice the rate."""
    path = tmp_path / "clip.wav"
    save_audio(path, np.repeat(clip.clamp(-1, 1).numpy(), 2), sample_rate=32_000)
    return path


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(classifier, clip, tmp_path):
    first, second, other = (
        saved(explain(classifier, clip, num_draws=8, seed=seed), tmp_path) for seed in (5, 5, 6)
    )
    assert first == second != other


def test_another_chunk_size_changes_nothing_beyond_rounding(classifier, clip):
    found = [explain(classifier, clip, **BOTH, num_draws=16, chunk_size=size) for size in (1, 7)]
    for path, view in (("frames", "frames"), ("layers", "layer_neuron")):
        torch.testing.assert_close(*(one.values(path, view) for one in found), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode, classifier, clip):
    expected = explain(classifier, clip, **FEW)
    with mode():
        found = explain(classifier, clip.clone(), **FEW)
    assert torch.equal(found.values("frames", "frames"), expected.values("frames", "frames"))


@pytest.fixture
def double_by_default():
    """Tensors of double precision, as some scripts ask torch for."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("family", ["noise", "spectral_noise"])
def test_the_default_type_of_torch_changes_no_draw(family, classifier, clip, request):
    expected = explain(classifier, clip, **BOTH, num_draws=4, baselines=family)
    request.getfixturevalue("double_by_default")
    found = explain(classifier, clip, **BOTH, num_draws=4, baselines=family)
    for path, view in (("frames", "frames"), ("layers", "layers")):
        assert torch.equal(found.values(path, view), expected.values(path, view))


def test_the_default_type_of_torch_changes_no_model(clip, tmp_path, request):
    EmotionClassifier(SpeechBackbone("tiny"), ["happy", "sad"]).save_pretrained(tmp_path)
    expected = explain(tmp_path, clip, **FEW)
    request.getfixturevalue("double_by_default")
    assert torch.equal(
        *(one.values("frames", "frames") for one in (expected, explain(tmp_path, clip, **FEW)))
    )


def test_nothing_is_left_behind(build_classifier, clip):
    classifier = build_classifier()
    classifier(clip[None]).sum().backward()
    gradients = [parameter.grad for parameter in classifier.parameters()]
    required = [parameter.requires_grad for parameter in classifier.parameters()]
    values = {name: value.clone() for name, value in classifier.state_dict().items()}
    training, torch_state = [m.training for m in classifier.modules()], torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global one is looked at, not used
    given = clip.clone()
    explain(
        classifier,
        given,
        target="all",
        stages=["frames", "layers", "waveform"],
        num_draws=8,
        precision="fp32",
    )
    assert all(p.grad is g for p, g in zip(classifier.parameters(), gradients, strict=True))
    assert [parameter.requires_grad for parameter in classifier.parameters()] == required
    assert all(torch.equal(values[name], value) for name, value in classifier.state_dict().items())
    assert [m.training for m in classifier.modules()] == training
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.equal(given, clip)


def test_a_classifier_in_training_mode_is_warned_about_and_put_back(build_classifier, clip):
    classifier = build_classifier().train()
    with pytest.warns(UserWarning, match=r"in training mode \(EmotionClassifier.training=True\)"):
        found = explain(classifier, clip, **FEW)
    assert classifier.training
    assert classifier.head.training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = explain(classifier.eval(), clip, **FEW)
    assert torch.equal(found.values("frames", "frames"), expected.values("frames", "frames"))


def test_a_file_is_decoded_resampled_and_named(classifier, recording):
    found = explain(classifier, recording, **FEW)
    assert found.clip == str(recording)
    assert found.clip_sha256 == hash_audio_file(recording)
    assert found.attributions["frames"].provenance["clip_sha256"] == found.clip_sha256
    assert found.attributions["frames"].provenance["model_fingerprint"] == fingerprint(classifier)
    assert (found.num_samples, found.sample_rate) == (1900, 16_000)
    assert found.duration_s == 1900 / 16_000
    span = explain(classifier, Clip(recording, "happy", start_s=0.05, end_s=0.1), **FEW)
    assert span.num_samples == 800
    assert (span.clip, span.clip_sha256) == (found.clip, found.clip_sha256)
    assert (span.clip_start_s, span.clip_end_s) == (0.05, 0.1)


def test_a_segment_beyond_the_end_is_refused(classifier, clip):
    with pytest.raises(SettingError, match=r"segments=\[0\.12, 0\.2\] begins after .* end at 0\.119 s"):
        explain(classifier, clip, segments=[(0.0, 0.1), (0.12, 0.2)], **FEW)
    assert explain(classifier, clip, segments=[(0.1, 0.2)], **FEW).values("frames", "segments").shape == (2,)


@pytest.mark.parametrize("wrong", [torch.nn.Linear(2, 2), None, 3])
def test_what_is_no_classifier(wrong, clip):
    with pytest.raises(SettingError, match="give a classifier or a path"):
        Explainer.__init__.__wrapped__(object.__new__(Explainer), wrong)


def test_the_fingerprint_is_that_of_the_weights(build_classifier):
    classifier, same = build_classifier(), build_classifier()
    assert fingerprint(classifier) == fingerprint(same)
    with torch.no_grad():
        same.head.mlp[-1].bias[0] += 1
    assert fingerprint(classifier) != fingerprint(same)


def test_arrays_and_tensors_are_alike(classifier, clip):
    found = [explain(classifier, given, **FEW) for given in (clip, clip.numpy(), clip.double())]
    assert len({one.clip_sha256 for one in found}) == 1
    assert all(one.top("frames", 3) == found[0].top("frames", 3) for one in found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_classifier_of_another_precision_is_explained_in_single_precision(classifier, clip, dtype):
    other = deepcopy(classifier).to(dtype)
    found = explain(other, clip, **FEW, target="happy")
    expected = explain(deepcopy(other).float(), clip, **FEW, target="happy")
    assert torch.equal(*(one.values("frames", "frames", "happy") for one in (found, expected)))
    assert diagnose(other, clip) == diagnose(deepcopy(other).float(), clip)
    assert next(other.parameters()).dtype == dtype


def test_the_prediction_is_explained_unless_a_label_is_named(classifier, clip):
    found = explain(classifier, clip, **FEW)
    logits = classifier(clip[None])[0]
    assert found.prediction == classifier.labels[int(logits.argmax())]
    assert found.targets == (found.prediction,)
    assert list(found.probabilities.values()) == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
    odds = torch.tensor(found.probabilities[found.prediction]).logit()
    assert found.score[found.prediction] == pytest.approx(float(odds), abs=1e-4)


def test_an_unknown_label_is_refused_with_the_labels(classifier, clip):
    with pytest.raises(
        AttributionError, match=r"target='joy' .* labels are angry, happy, sad; .* 'angry-vs-happy'"
    ):
        explain(classifier, clip, target="joy")


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "smooth_grad", "integrated_gradients"])
def test_every_method_takes_every_path(method, classifier, clip):
    stages = ["frames", "layers", "waveform"]
    found = explain(classifier, clip, target="sad", method=method, stages=stages, num_draws=16)
    for path in stages:
        values = found.values(path, "layers" if path == "layers" else "frames")
        assert values.isfinite().all()
        assert values.any()
        assert found.attributions[path].method == method
    assert np.isnan(found.top("frames", 1)[0]["half_width"]) or method == "smooth_grad"


def test_integrated_gradients_share_the_draws_among_declared_baselines(classifier, clip):
    found = explain(classifier, clip, method="integrated_gradients", num_draws=32, stages=["layers"])
    attribution = found.attributions["layers"]
    assert attribution.num_draws == 32
    assert "exactly 4 declared" in attribution.estimand
    assert attribution.relative_gap[0] < 1e-3


@pytest.mark.parametrize("family", ["spectral_noise", "time_shifted"])
def test_drawn_families(family, classifier, clip):
    found = explain(classifier, clip, baselines=family, **FEW)
    assert family in found.attributions["frames"].estimand


def test_recordings_as_baselines(classifier, clip, recording):
    others = [recording, clip.flip(0)[:700], clip.roll(300).numpy()]
    found = explain(classifier, clip, baselines="other_clips", recordings=others, **FEW)
    assert found.attributions["frames"].estimand == "the mean over exactly 3 declared baselines (other_clips)"
    two = explain(classifier, clip, baselines="another_class", num_baselines=2, recordings=others, **FEW)
    assert "exactly 2 declared baselines (another_class)" in two.attributions["frames"].estimand


@pytest.mark.usefixtures("unchecked_types")
def test_recordings_that_are_missing_too_few_or_of_no_use(classifier, clip):
    with pytest.raises(
        SettingError,
        match=r"baselines='other_clips', recordings: 0 were given; give recordings for other_clips",
    ):
        explain(classifier, clip, baselines="other_clips")
    with pytest.raises(SettingError, match=r"num_baselines=5, but there are only 1 recordings"):
        explain(classifier, clip, baselines="other_clips", num_baselines=5, recordings=[clip])
    with pytest.raises(SettingError, match=r"baselines='noise', recordings: 1 .* for nothing else"):
        explain(classifier, clip, baselines="noise", recordings=[clip])
    for single in ("other.wav", Path("other.wav"), clip):
        with pytest.raises(SettingError, match=r"recordings is a .*give a list, even of one"):
            explain(classifier, clip, baselines="other_clips", recordings=single)
    with pytest.raises(AudioError, match=r"recordings\[1\]: peak=0, .* silent"):
        explain(classifier, clip, baselines="other_clips", recordings=[clip, torch.zeros(900)])


def test_silence_is_refused_where_the_level_is_divided_out_and_taken_in_decibels_on_request(
    build_classifier, clip
):
    classifier = build_classifier(norm="group")
    settings = {"stages": ["waveform"], "baselines": "silence"}
    with pytest.raises(AttributionError, match=r"baselines='silence' is ill-posed for this score"):
        explain(classifier, clip, **settings)
    found = explain(classifier, clip, method="integrated_gradients", decibels=True, num_draws=256, **settings)
    assert found.attributions["waveform"].relative_gap[0] < 1e-3


def test_a_tolerance_is_reached_or_said_not_to_be(classifier, clip):
    found = explain(classifier, clip, stages=["layers"], tolerance=0.2)
    assert found.attributions["layers"].resolved
    with pytest.warns(UserWarning, match="tolerance=1e-06: .* units are not resolved after 64 draws"):
        found = explain(classifier, clip, stages=["layers"], tolerance=1e-6, num_draws=64)
    assert not found.attributions["layers"].resolved
    assert found.attributions["layers"].draws_needed > 64


def test_a_time_limit_is_for_all_paths_together(classifier, clip):
    found = explain(classifier, clip, stages=["frames", "layers"], max_seconds=0.3)
    draws = [found.attributions[path].num_draws for path in ("frames", "layers")]
    assert all(count >= 1 for count in draws)
    assert list(found.attributions) == ["frames", "layers"]


def test_each_stage_gets_its_share_of_the_time_that_is_left():
    clock = iter([0.0, 0.0, 1.0, 3.5])
    shares = time_shares(["layers", "frames", "waveform"], 6.0, now=lambda: next(clock))
    assert list(shares) == [("layers", 2.0), ("frames", 2.5), ("waveform", 2.5)]
    assert list(time_shares(["frames"], None)) == [("frames", None)]


def test_stages_are_in_the_order_of_the_settings(classifier, clip):
    stages = ["waveform", "frames", "layers"]
    assert list(explain(classifier, clip, stages=stages, num_draws=4).attributions) == stages


@pytest.mark.filterwarnings("ignore:precision='bf16'. this CPU has no bf16 instructions")
def test_a_lower_precision_states_its_error(classifier, clip):
    found = explain(classifier, clip, **BOTH, precision="bf16", num_draws=8)
    for path, view in (("frames", "frames"), ("layers", "layer_frame")):
        settings = found.attributions[path].settings
        assert settings["precision"] == "bf16"
        assert 0 < settings["precision_error"]["score"] < 0.1
        assert 0 < settings["precision_error"][view] < 0.5
    exact = explain(classifier, clip, **BOTH, num_draws=8).attributions["frames"].settings
    assert exact["precision"] == "fp32"
    assert "precision_error" not in exact


@pytest.mark.parametrize(("scale", "is_exact_enough"), [(1.0, True), (1000.0, False)])
def test_auto_takes_the_lower_precision_where_its_error_is_small(
    build_classifier, clip, scale, is_exact_enough
):
    classifier = build_classifier()
    with torch.no_grad():  # sharp attention turns small errors into large ones
        for layer in classifier.backbone.model.encoder.layers:
            layer.attention.q_proj.weight *= scale
    found = explain(classifier, clip, precision="auto", **FEW)
    settings, can_lower = found.attributions["frames"].settings, has_bf16(torch.device("cpu"))
    chosen = settings["precision"]
    assert chosen == ("bf16" if can_lower and is_exact_enough else "fp32")
    if can_lower:
        assert (settings["precision_error"]["frames"] <= MAX_PRECISION_ERROR) == is_exact_enough
        assert ("at most" if is_exact_enough else "above") in settings["precision_reason"]
    same = explain(classifier, clip, precision=chosen, **FEW).attributions["frames"]
    assert torch.equal(found.attributions["frames"].views["frames"].values, same.views["frames"].values)
    assert found.logits == explain(classifier, clip, precision="fp32", **FEW).logits


def test_a_layer_the_classifier_lacks(classifier):
    with pytest.raises(SettingError, match=r"layer=3 does not exist; use 0 to 2"):
        Explainer(classifier, ExplainSettings(layer=3))


def test_the_keywords_are_the_settings():
    keywords = {name: one.default for name, one in signature(explain).parameters.items()}
    settings = {one.name: one.default for one in fields(ExplainSettings)}
    given = {name: value for name, value in keywords.items() if name in settings}
    assert given.keys() == settings.keys()
    assert all(value == settings[name] for name, value in given.items())
    assert keywords.keys() - given.keys() == {"classifier", "clip", "target", "recordings"}


def test_the_public_names_are_those_of_the_ring():
    assert wavshap_lightning.explain is explain
    assert wavshap_lightning.Explainer is Explainer


def test_some_labels_at_once_are_what_each_is_by_itself(classifier, clip):
    settings = {"stages": ("frames",), "num_draws": 8}
    both = explain(classifier, clip, target=("sad", "predicted", "sad"), **settings)
    assert both.targets == tuple(dict.fromkeys(("sad", both.prediction)))
    for target in both.targets:
        alone = explain(classifier, clip, target=target, **settings)
        torch.testing.assert_close(
            both.values("frames", "frames", target), alone.values("frames", "frames"), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("more", ["all", "angry-vs-sad"])
def test_of_some_labels_none_can_be_more_than_one(classifier, clip, more):
    with pytest.raises(AttributionError, match="explain 'all' or a margin alone"):
        explain(classifier, clip, target=["sad", more], stages=("layers",), num_draws=4)


def test_at_most_twelve_calls_lead_to_the_gradient(classifier, clip, monkeypatch):
    """A stack trace shows the method, not machinery."""
    depths, grad = [], torch.autograd.grad

    def counted(*args, **more):
        files = [Path(frame.filename) for frame in traceback.extract_stack()]
        depths.append(sum(Path(wavshap_lightning.__file__).parent in file.parents for file in files))
        return grad(*args, **more)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    explain(classifier, clip, **FEW)
    assert 1 < max(depths) <= 12
