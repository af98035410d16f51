"""What can be set of a backbone: its precision, and what of it is trained."""

from __future__ import annotations

import copy

import pytest
import torch

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.backbone import BackboneSettings, SpeechBackbone

# Precision


def pretend_cpu(monkeypatch, *, bf16):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bf16, raising=False)


def test_autocast_outside_has_no_effect(backbone, padded_batch):
    expected = backbone(*padded_batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = backbone(*padded_batch)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_bf16_is_close_and_comes_out_as_float32(
    model, open_backbone, padded_batch, relative_error, monkeypatch
):
    pretend_cpu(monkeypatch, bf16=True)
    expected = open_backbone(copy.deepcopy(model))(*padded_batch)
    lowered = open_backbone(model, precision="bf16")
    found = lowered(*padded_batch)
    assert lowered.frontend(*padded_batch).dtype == found.dtype == torch.float32
    assert 1e-4 < relative_error(found, expected) < 3e-2


def test_bf16_warns_where_the_cpu_lacks_it(open_backbone, clip, monkeypatch):
    pretend_cpu(monkeypatch, bf16=False)
    with pytest.warns(UserWarning, match="precision='bf16': this CPU has no bf16.*'fp32'"):
        open_backbone(precision="bf16").frontend(clip)


def test_bf16_warns_where_torch_cannot_tell(open_backbone, clip, monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    with pytest.warns(UserWarning, match="precision='bf16'"):
        open_backbone(precision="bf16").frontend(clip)


def test_an_unknown_precision_is_refused(open_backbone, unchecked_types):
    with pytest.raises(SettingError, match="precision='fp16' must be one of fp32, bf16"):
        open_backbone(precision="fp16")


# What it refuses, and what it says of itself


@pytest.mark.parametrize("family", ["wavlm", "wav2vec2"])
def test_parts_that_mix_padding_in_are_refused(family, build_model, open_backbone):
    with pytest.raises(ModelError, match="backbone='small' has add_adapter=True"):
        open_backbone(build_model(family, add_adapter=True))


def test_settings_build_the_same_backbone(clip):
    backbone = SpeechBackbone("tiny", revision="main", unfreeze_layers=1, lora_rank=0)
    assert backbone.settings == BackboneSettings("tiny", None, unfreeze_layers=1)
    again = SpeechBackbone(backbone.settings)
    assert again.settings == backbone.settings
    assert again.fingerprint == backbone.fingerprint
    assert torch.equal(again(clip), backbone(clip))


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        (BackboneSettings(), True),
        (BackboneSettings(precision="bf16"), True),
        (BackboneSettings(unfreeze_layers=1), False),
        (BackboneSettings(lora_rank=2), False),
    ],
)
def test_frozen_says_whether_anything_is_trained(settings, frozen):
    assert settings.frozen == frozen


@pytest.mark.parametrize("last_layer", [0, 1])
def test_what_is_left_of_a_cut_backbone_is_as_it_was(
    variant, last_layer, build_model, open_backbone, padded_batch
):
    whole = open_backbone(build_model(*variant))
    if whole.num_layers == 1:
        with pytest.raises(SettingError, match=f"last_layer={last_layer}: this model has one layer"):
            open_backbone(build_model(*variant), last_layer=last_layer)
        return
    cut = open_backbone(build_model(*variant), last_layer=last_layer)
    assert cut.num_layers == last_layer + 1
    expected = whole(*padded_batch)[:, : last_layer + 1]
    torch.testing.assert_close(cut(*padded_batch), expected, rtol=0, atol=1e-6)
    assert len(cut.model.encoder.layers) == last_layer
    assert cut.fingerprint != whole.fingerprint


def test_a_backbone_cut_after_its_last_layer_is_whole(open_backbone, clip):
    whole = open_backbone()
    cut = open_backbone(last_layer=whole.num_layers - 1)
    assert cut.fingerprint == whole.fingerprint
    assert torch.equal(cut(clip), whole(clip))


@pytest.mark.parametrize("last_layer", [-1, 3])
def test_a_layer_that_is_not_there_is_refused(last_layer, open_backbone):
    with pytest.raises(
        SettingError, match=f"last_layer={last_layer} must lie between 0 and this backbone's 2"
    ):
        open_backbone(last_layer=last_layer)
