"""The record keeps everything, in one file, without pickle."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import save_file

from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import attribute
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.record import Attribution, tensor_sha256
from wavshap_lightning.attribution.saliency import saliency
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import elements, summed
from wavshap_lightning.errors import AttributionError

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


def test_what_was_saved_is_loaded(record, tmp_path):
    path = tmp_path / "deep" / "record.safetensors"
    record.save(path)
    loaded = Attribution.load(path)
    for entry in fields(Attribution):
        before, after = getattr(record, entry.name), getattr(loaded, entry.name)
        if entry.name == "views":
            assert before.keys() == after.keys()
            for name, view in before.items():
                assert torch.equal(view.values, after[name].values)
                assert (view.stderr is None) == (after[name].stderr is None)
                assert view.stderr is None or torch.equal(view.stderr, after[name].stderr)
                assert view.degrees_of_freedom == after[name].degrees_of_freedom
        elif isinstance(before, torch.Tensor):
            assert torch.equal(before, after)
        else:
            assert before == after, entry.name
    assert [p.name for p in path.parent.iterdir()] == ["record.safetensors"]


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


def _write_damaged(path, kind, record):
    record.save(path)
    content = path.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "other":
        save_file({"a": torch.zeros(2)}, path)
    elif kind == "text":
        path.write_text("not a record")
    elif kind == "missing":
        path.unlink()
    elif kind == "format":
        path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 9'))


@pytest.mark.parametrize("kind", ["cut", "other", "text", "missing", "format"])
def test_what_is_no_record_is_refused_by_name(kind, network, frames, tmp_path):
    path = tmp_path / "x.safetensors"
    _write_damaged(path, kind, attribute(saliency, network, frames, Target("logit", (0,))))
    with pytest.raises(
        AttributionError, match=r"path=.*x\.safetensors is not a record of an attribution \(.+\)"
    ):
        Attribution.load(path)


def test_a_record_is_resolved_unless_told_otherwise(network, frames):
    record = attribute(saliency, network, frames, Target("logit", (0,)))
    assert record.resolved
    assert not replace(record, unresolved=torch.ones(1, 2, dtype=torch.bool)).resolved
    assert replace(record, unresolved=torch.zeros(1, 2, dtype=torch.bool)).resolved
