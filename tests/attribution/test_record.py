"""The record says where it comes from and what it claims."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.attribution.saliency import saliency
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import elements, summed

pytestmark = pytest.mark.filterwarnings("ignore:.*units are not resolved")

PROVENANCE = {"clip_sha256": "c" * 64, "model_fingerprint": "m" * 64}
VIEWS = (summed(1, name="frames", smooth_variance=True), elements())


@pytest.fixture(params=["gradient_shap", "tolerance", "one draw", "integrated_gradients", "saliency"])
def record(request, network, frames, declared):
    target, rules = every_class(4), {"tolerance": Stopping(tolerance=1e-6, num_draws=64)}
    rules |= {"gradient_shap": Stopping(num_draws=16), "one draw": Stopping(num_draws=1)}
    if request.param == "integrated_gradients":
        found = attribute(integrated_gradients, network, frames, target, declared, views=VIEWS)
    elif request.param == "saliency":
        found = attribute(saliency, network, frames, Target("margin", (1,), against=0), views=VIEWS)
    else:
        rule = rules[request.param]
        found = attribute(
            gradient_shap, network, frames, target, declared, generator=3, stopping=rule, views=VIEWS
        )
    return replace(found, provenance=PROVENANCE)


def test_the_record_names_where_it_comes_from(record, network, frames):
    assert record.provenance == PROVENANCE
    assert set(record.versions) == {"wavshap-lightning", "torch", "python"}
    assert record.prediction == int(network(frames[None]).argmax())
    json.dumps(dict(record.settings))


def test_scores_are_those_of_the_network(record, network, frames):
    expected = record.target(network(frames[None]).detach())[0]
    torch.testing.assert_close(torch.tensor(record.score), expected, rtol=1e-5, atol=1e-6)


def test_only_what_claims_completeness_has_a_gap(record):
    assert (record.gap is None) == (record.method == "saliency")
    assert (record.relative_gap is None) == (record.gap is None)


def test_digests_tell_numbers_shapes_and_precision_apart(frames):
    digests = {
        tensor_sha256(values)
        for values in (frames, frames.reshape(-1), frames.double(), frames + 1e-6, frames.flip(0))
    }
    assert len(digests) == 5
    assert tensor_sha256(frames) == tensor_sha256(frames.clone().t().contiguous().t())


def test_a_record_is_resolved_unless_told_otherwise(network, frames):
    record = attribute(saliency, network, frames, Target("logit", (0,)))
    assert record.resolved
    assert not replace(record, unresolved=torch.ones(1, 2, dtype=torch.bool)).resolved
    assert replace(record, unresolved=torch.zeros(1, 2, dtype=torch.bool)).resolved
