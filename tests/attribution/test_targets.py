"""Laws of the targets, against torch's own softmax in double precision."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.errors import AttributionError


@pytest.fixture
def logits(generator):
    return 3 * torch.randn(6, 5, generator=generator)


def reference(kind, logits):
    probabilities = logits.double().softmax(1)
    return {
        "logit": logits.double(),
        "probability": probabilities,
        "log_probability": probabilities.log(),
        "log_odds": (probabilities / (1 - probabilities)).log(),
    }[kind]


@pytest.mark.parametrize("kind", ["logit", "probability", "log_probability", "log_odds"])
@pytest.mark.parametrize("classes", [(0,), (3, 1), (0, 1, 2, 3, 4)])
def test_the_scores_are_their_definition(kind, classes, logits):
    expected = reference(kind, logits)[:, list(classes)]
    torch.testing.assert_close(Target(kind, classes)(logits).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_margin_is_a_difference_and_changes_sign(logits):
    found = Target("margin", (2,), against=4)(logits)
    torch.testing.assert_close(found[:, 0], logits[:, 2] - logits[:, 4])
    torch.testing.assert_close(Target("margin", (4,), against=2)(logits), -found)


def test_every_class_is_each_class(logits):
    found = every_class(5)(logits)
    for index in range(5):
        torch.testing.assert_close(found[:, index], Target("log_odds", (index,))(logits)[:, 0])


@pytest.mark.parametrize("kind", ["log_odds", "log_probability", "probability"])
def test_a_number_added_to_all_logits_changes_nothing(kind, logits):
    target = every_class(5, kind)
    torch.testing.assert_close(target(logits + 7.0), target(logits), rtol=1e-4, atol=1e-5)


def test_log_odds_do_not_saturate():
    sure = torch.tensor([[60.0, 0.0, -5.0]], requires_grad=True)
    score = Target("log_odds", (0,))(sure)
    (gradient,) = torch.autograd.grad(score.sum(), sure)
    assert score.item() == pytest.approx(60.0 - torch.tensor([0.0, -5.0]).logsumexp(0).item())
    assert gradient[0, 0].item() == 1.0
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("logit", ()), r"classes=\(\), against=None: one or more"),
        (("margin", (0,)), r"kind='margin', against=None"),
        (("logit", (0,), 1), r"kind='logit', against=1"),
        (("margin", (1,), 1), r"classes=\(1,\), against=1: .* none twice"),
    ],
)
def test_what_is_no_target_is_refused(arguments, message):
    with pytest.raises(AttributionError, match=message):
        Target(*arguments)


def test_an_unknown_kind_names_those_there_are():
    target = Target("logit", (0,))
    object.__setattr__(target, "kind", "odds")  # calls are checked against annotations here
    with pytest.raises(AttributionError, match="kind='odds' must be one of logit, "):
        target.__post_init__()


@pytest.mark.parametrize(
    "target", [Target("logit", (0, 8)), Target("margin", (0,), against=8), Target("logit", (8,))]
)
def test_a_class_the_score_lacks_is_named(target):
    with pytest.raises(AttributionError, match=r"classes=\[8\] do not exist; use 0 to 7"):
        target.check(8)


def test_one_class_alone_has_only_a_logit():
    Target("logit", (0,)).check(1)
    with pytest.raises(AttributionError, match="has only one"):
        Target("log_odds", (0,)).check(1)
