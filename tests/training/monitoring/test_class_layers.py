"""The layers of many clips at once are what the path through their frames gives, one by one."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.targets import every_class
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError
from wavshap_lightning.evaluation.similarity import correlation
from wavshap_lightning.evaluation.summary import magnitude_shares
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.models.head import EmotionHead, HeadSettings
from wavshap_lightning.models.pooling import (
    covariance_with_mix,
    mix_variance,
    summarize_layers,
)
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import read_waveform, stack_statistics
from wavshap_lightning.training.data.extraction import layer_statistics
from wavshap_lightning.training.monitoring.class_layers import (
    noise_statistics,
    stratified_alphas,
    survey_classes,
    survey_layers,
)
from wavshap_lightning.training.tasks import TaskSettings

LAYERS, SIZE, TIME, CLIPS, BASELINES, CLASSES = 3, 4, 12, 5, 6, 3


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build_head(pooling, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = EmotionHead(
            LAYERS, SIZE, CLASSES, HeadSettings(pooling=pooling, **{"hidden_size": 8, **settings})
        )
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(draw(*parameter.shape, seed=1))
    return head.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def stacks():
    """Layers of clips and of baselines whose frames are uncorrelated over time, layer by layer."""
    waves = torch.linalg.qr(torch.cat([torch.ones(TIME, 1), draw(TIME, 6, seed=2)], 1)).Q[:, 1:]
    clips = torch.einsum("nlhk,tk->nlth", draw(CLIPS, LAYERS, SIZE, 3, seed=3), waves[:, :3])
    others = torch.einsum("nlhk,tk->nlth", draw(BASELINES, LAYERS, SIZE, 3, seed=4), waves[:, 3:])
    return clips + draw(CLIPS, LAYERS, 1, SIZE, seed=5), others + draw(BASELINES, LAYERS, 1, SIZE, seed=6)


def statistics(layers, statistic):
    return summarize_layers(layers, torch.full((len(layers),), layers.shape[2]), statistic)


def survey(head, clips, labels, baselines, *, seed=0, **settings):
    clips, baselines = (statistics(layers, head.statistic) for layers in (clips, baselines))
    generator = torch.Generator().manual_seed(seed)
    return survey_layers(head, clips, labels, baselines, generator, **settings)


def one_by_one(head, clips, labels, baselines, alphas, score):
    """The same by autograd through all frames."""
    found = []
    for clip, label, alpha in zip(clips, labels.tolist(), alphas, strict=True):
        toward = clip - baselines
        positions = (baselines + alpha[:, None, None, None] * toward).requires_grad_()
        scores = every_class(CLASSES, score)(head(positions))[:, label]
        (gradient,) = torch.autograd.grad(scores.sum(), positions)
        found.append((gradient * toward).sum(2).mean(0))
    return torch.stack(found)


@pytest.mark.parametrize("score", ["log_odds", "logit"])
@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive"])
def test_neurons_are_those_of_the_path_through_the_frames(stacks, pooling, score):
    clips, baselines = stacks
    head, labels = build_head(pooling), torch.tensor([0, 1, 2, 0, 1])
    found = survey(head, clips, labels, baselines, seed=7, score=score)
    alphas = stratified_alphas(CLIPS, BASELINES, torch.Generator().manual_seed(7))
    torch.testing.assert_close(
        found, one_by_one(head, clips, labels, baselines, alphas, score), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive"])
def test_of_one_baseline_many_times_they_add_up_to_the_difference(stacks, pooling):
    clips, baselines = stacks
    head, labels = build_head(pooling), torch.tensor([2, 1, 0, 0, 1])
    many = baselines[:1].expand(400, -1, -1, -1)
    found = survey(head, clips, labels, many)
    own, other = (every_class(CLASSES)(head(layers)) for layers in (clips, baselines[:1]))
    difference = own[torch.arange(CLIPS), labels] - other[0, labels]
    gap = found.sum((1, 2)) - difference
    assert gap.abs().max() < 0.01 * difference.abs().max()


def test_a_layer_that_is_not_used_has_nothing(stacks):
    clips, baselines = stacks
    head = build_head("mean_std", layer=1)
    labels = torch.zeros(CLIPS, dtype=torch.long)
    found = survey(head, clips, labels, baselines)
    assert not found[:, [0, 2]].any()
    assert found[:, 1].any()


def test_alphas_are_spread_over_strata_and_differ_between_clips():
    alphas = stratified_alphas(50, 8, torch.Generator().manual_seed(0))
    assert (alphas.sort(1).values * 8).int().tolist() == [list(range(8))] * 50
    assert len({tuple(row) for row in (alphas * 8).int().tolist()}) > 40


def test_the_covariance_with_the_mix_is_consistent_with_its_variance(stacks):
    weights = torch.tensor([0.2, 0.5, 0.3])
    moments = statistics(stacks[0], "moments")
    mixed = torch.einsum("l,nlh->nh", weights, covariance_with_mix(moments, weights))
    torch.testing.assert_close(mixed, mix_variance(moments, weights))
    layers = stacks[0] - stacks[0].mean(2, keepdim=True)
    expected = (layers * torch.einsum("l,nlth->nth", weights, layers)[:, None]).mean(2)
    torch.testing.assert_close(covariance_with_mix(moments, weights), expected)


# By class, from the cache


@pytest.fixture
def cache(tmp_path):
    """An empty cache for the statistics of noise."""
    return TensorCache(tmp_path / "noise")


@pytest.fixture
def cached(build_datamodule, attach):
    """`(tasks, **head) -> (classifier, clips, StatisticsBatches)` of the validation part."""

    def cached(tasks=None, **head):
        data = build_datamodule()
        module = attach(data, head=HeadSettings(**head), tasks=tasks)
        classifier = module.classifier.eval().requires_grad_(False)
        with torch.no_grad():
            classifier.head.mlp[-1].weight.mul_(5)
        return classifier, data.clips("validation"), data.val_dataloader().dataset

    return cached


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive"])
def test_clips_agree_with_their_explanations(cached, pooling):
    """Other noise, and for mean_std its covariance with the clip, but the same picture."""
    classifier, clips, batches = cached(pooling=pooling)
    batch = batches[[(position, 0) for position in range(len(clips))]]
    generator, rate = torch.Generator().manual_seed(0), classifier.sample_rate
    sounds = [noise(read_waveform(clip, rate)).draw(1, generator)[0] for clip in [*clips] * 5]
    statistics = layer_statistics(classifier.backbone, sounds, classifier.head.statistic)
    baselines = stack_statistics(statistics)
    found = survey_layers(
        classifier.head, batch.statistics, batch.labels, baselines, torch.Generator().manual_seed(0)
    )
    for clip, neurons in zip(clips, found, strict=True):
        explained = explain(classifier, clip, target=clip.label, stages=("layers",))
        expected = explained.values("layers", "layer_neuron")
        assert correlation(neurons.flatten(), expected.flatten()) > 0.9


def test_classes_add_their_clips_up(cached, cache):
    classifier, clips, batches = cached()
    baselines = noise_statistics(classifier, clips, cache, 0)
    names = [clip.label for clip in clips]
    surveyed = survey_classes(classifier, batches, names, baselines, score="log_odds", seed=0)
    assert {row["label"]: row["clips"] for row in surveyed} == {"neutral": 3, "happy": 2, "sad": 2}
    batch = batches[[(position, 0) for position in range(len(clips))]]
    found = survey_layers(
        classifier.head, batch.statistics, batch.labels, baselines, torch.Generator().manual_seed(0)
    )
    own = found[[clip.label == "sad" for clip in clips]]
    (sad,) = (row for row in surveyed if row["label"] == "sad")
    shares = torch.tensor([sad[f"layers/{layer:02d}"] for layer in range(found.shape[1])])
    torch.testing.assert_close(shares, magnitude_shares(own.sum(2).abs().sum(0)))
    layer, neuron, value = sad["neurons"].split()[0].split(":")
    assert own.mean(0).abs().max() == pytest.approx(abs(float(value)), rel=1e-3)
    assert own.mean(0)[int(layer), int(neuron)] == pytest.approx(float(value), rel=1e-3)
    assert 0 <= sad["layer_entropy"] <= 1


@pytest.mark.parametrize("task", ["distribution", "labels"])
def test_a_clip_counts_for_the_output_named_after_its_label(cached, cache, task):
    classifier, clips, batches = cached(tasks=[TaskSettings(task, labels=["sad", "happy"])])
    baselines, names = noise_statistics(classifier, clips, cache, 0), [clip.label for clip in clips]
    surveyed = survey_classes(classifier, batches, names, baselines, score="logit", seed=0)
    assert [(row["label"], row["clips"]) for row in surveyed] == [("sad", 2), ("happy", 2)]


def test_baselines_are_computed_once_and_kept(cached, cache):
    classifier, clips, _ = cached()
    first = noise_statistics(classifier, clips, cache, 3)
    with torch.no_grad():
        next(classifier.backbone.parameters()).mul_(2)
        second = noise_statistics(classifier, clips, cache, 3)
        next(classifier.backbone.parameters()).div_(2)  # other tests share it
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_clip_that_is_gone_is_named(cached, cache, tmp_path):
    classifier, _, _ = cached()
    with pytest.raises(AudioError, match="gone"):
        noise_statistics(classifier, [Clip(tmp_path / "gone.wav", "happy")], cache, 0)
