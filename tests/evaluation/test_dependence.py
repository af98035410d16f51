"""Maps that should depend on something are held against those that do not."""

from __future__ import annotations

from copy import copy

import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.sanity import cascade, dependence, open_doubts


@pytest.fixture(scope="module")
def doubts(classifier):
    return open_doubts(classifier, torch.tensor([0.3, 0.9]), "sad", seed=4, rivals=[classifier])


def drawn(seed):
    return torch.randn(200, generator=torch.Generator().manual_seed(seed))


def test_the_copies_are_the_first_and_the_last_level_of_the_cascade(classifier, doubts):
    levels = list(cascade(classifier, seed=4))
    for found, level in ((doubts.head_redrawn, levels[0]), (doubts.all_redrawn, levels[-1])):
        expected = dict(level.classifier.named_parameters())
        assert all(torch.equal(value, expected[name]) for name, value in found.named_parameters())


def test_the_other_class_is_the_most_probable_besides(classifier, doubts):
    assert doubts.other_class == "angry"
    one = open_doubts(classifier, torch.tensor([0.3, 0.9]), "angry", seed=0)
    assert one.other_class == "sad"


def test_a_map_that_depends_on_everything(doubts):
    """Unrelated with other parameters, opposite for the other class, much the same with a rival."""
    own = drawn(0)
    answers = {
        (id(doubts.head_redrawn), "sad"): drawn(1),
        (id(doubts.all_redrawn), "sad"): drawn(2),
        (id(doubts.classifier), "angry"): -own,
        (id(doubts.classifier), "sad"): own.exp(),  # the rival, which is the classifier itself
    }
    found = dependence(own, lambda model, label: answers[id(model), label], doubts)
    assert abs(found["head_redrawn"]) < 0.2
    assert abs(found["all_redrawn"]) < 0.2
    assert found["other_class"] == pytest.approx(-1)
    assert found["other_seeds"] == pytest.approx(1)


def test_a_map_that_depends_on_nothing(doubts):
    found = dependence(drawn(0), lambda *_: drawn(0), doubts)
    assert found["other_class"] == found["other_seeds"] == pytest.approx(1)
    assert min(found["head_redrawn"], found["all_redrawn"]) > 0.9


def test_without_another_class_there_is_nothing_to_ask(classifier):
    one = copy(classifier)
    one.labels = ("sad",)
    with pytest.raises(SettingError, match="no other class"):
        open_doubts(one, torch.tensor([0.5]), "sad", 0)
