"""Randomized copies leave the classifier alone; maps that depend on nothing are found out."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from wavshap_lightning.evaluation.sanity import dependence, randomize


@pytest.mark.parametrize("part", ["head", "all"])
def test_what_is_named_is_randomized_and_nothing_else(classifier, part):
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    copied = dict(randomize(classifier, part, seed=0).named_parameters())
    for name, parameter in classifier.named_parameters():
        changed = part == "all" or name.startswith("head.")
        assert torch.equal(copied[name], parameter) != changed
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_the_head_is_the_same_whatever_else_is_randomized(classifier):
    head, everything = (dict(randomize(classifier, part, 3).named_parameters()) for part in ("head", "all"))
    assert all(torch.equal(head[name], everything[name]) for name in head if name.startswith("head."))


@pytest.mark.parametrize("frozen", [True, False])
def test_only_a_frozen_backbone_is_shared_with_the_copy_whose_head_is_randomized(classifier, frozen):
    asked = deepcopy(classifier)
    if not frozen:
        asked.backbone.settings = replace(asked.backbone.settings, unfreeze_layers=1)
    copied = randomize(asked, "head", seed=0)
    assert (copied.backbone is asked.backbone) == frozen
    assert not copied.training


def test_tensors_of_one_shape_get_draws_of_their_own(classifier):
    drawn = dict(randomize(classifier, "all", seed=0).named_parameters())
    layers = [
        drawn[f"backbone.model.encoder.layers.{index}.feed_forward.intermediate_dense.weight"]
        for index in range(3)
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        both = torch.stack([layers[one].flatten(), layers[other].flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.2


def test_sizes_stay_and_a_seed_is_a_seed(classifier):
    first, again, other = (dict(randomize(classifier, "all", seed).named_parameters()) for seed in (1, 1, 2))
    for name, parameter in classifier.named_parameters():
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        if parameter.numel() > 200:
            found, expected = first[name].detach().std(), parameter.detach().std()
            assert float(found) == pytest.approx(float(expected), rel=0.25)


def drawn(seed):
    return torch.randn(200, generator=torch.Generator().manual_seed(seed))


def test_a_map_that_depends_on_everything():
    """Unrelated with other parameters, opposite for the other class, much the same with another head."""
    own = drawn(0)
    changed = {
        "head_redrawn": [drawn(1)],
        "all_redrawn": [drawn(2)],
        "other_class": [-own],
        "other_seeds": [own.exp(), 2 * own],
    }
    found = dependence(own, changed)
    assert abs(found["head_redrawn"]) < 0.2
    assert abs(found["all_redrawn"]) < 0.2
    assert found["other_class"] == pytest.approx(-1)
    assert found["other_seeds"] == pytest.approx(1)


def test_a_map_that_depends_on_nothing():
    names = ("head_redrawn", "all_redrawn", "other_class", "other_seeds")
    found = dependence(drawn(0), {name: [drawn(0)] for name in names})
    assert found["other_class"] == found["other_seeds"] == pytest.approx(1)
    assert min(found["head_redrawn"], found["all_redrawn"]) > 0.9
    assert dependence(drawn(0), {}) == {}
