"""Laws of the backbone, against transformers' own forward pass of the same weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.frontends import valid_mask
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

# transformers hands WavLM's attention a boolean mask and a float bias
mixed_masks = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")


def layers_of_transformers(model, waveforms, attention_mask=None):
    """All hidden states at the rate of the frames; the last one after the final norm, as published."""
    outputs = model.eval()(waveforms, attention_mask=attention_mask, output_hidden_states=True)
    last = outputs.last_hidden_state
    return torch.stack([*(one for one in outputs.hidden_states[:-1] if one.shape == last.shape), last], 1)


def input_gradient(function, waveforms):
    waveforms = waveforms.clone().requires_grad_()
    layers = function(waveforms)
    probe = torch.randn(layers.shape, generator=torch.Generator().manual_seed(7))
    return torch.autograd.grad((layers * probe).sum(), waveforms)[0]


# What it computes


def test_layers_are_those_of_transformers(model, backbone, clip, relative_error):
    expected, found = layers_of_transformers(model, clip), backbone(clip)
    for layer in range(backbone.num_layers):
        assert relative_error(found[:, layer], expected[:, layer]) <= 1e-5


def test_gradients_are_those_of_transformers(model, backbone, clip, relative_error):
    expected = input_gradient(lambda w: layers_of_transformers(model, w), clip)
    assert relative_error(input_gradient(backbone, clip), expected) <= 1e-4


def test_the_frontend_is_transformers_feature_extractor(model, backbone, clip, relative_error):
    expected = model.eval().feature_extractor(clip).transpose(1, 2)
    assert relative_error(backbone.frontend(clip), expected) <= 1e-5


def test_normalized_clips_give_what_the_feature_extractor_leads_to(
    model, open_backbone, clip, relative_error
):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    values = extractor(np.asarray(clip[0]), sampling_rate=16_000, return_tensors="pt").input_values
    expected = layers_of_transformers(copy.deepcopy(model), values)
    assert relative_error(open_backbone(model, normalize=True)(clip), expected) <= 1e-5


def test_the_stages_compose_to_the_whole(backbone, padded_batch):
    waveforms, lengths = padded_batch
    frames, counts = backbone.frontend(waveforms, lengths), backbone.num_frames(lengths)
    assert torch.equal(backbone.encoder(frames, counts), backbone(waveforms, lengths))
    assert frames.shape == (3, int(counts.max()), backbone.num_channels)
    assert not frames[~valid_mask(counts, frames.shape[1])].any()


def test_sizes_are_those_of_the_layers(open_backbone, clip):
    backbone = open_backbone()
    layers = backbone(clip)
    assert layers.shape == (
        1,
        backbone.num_layers,
        backbone.frame_grid.num_frames(1600),
        backbone.hidden_size,
    )
    assert (backbone.frame_grid.hop_samples, backbone.sample_rate) == (40, 16_000)


@pytest.mark.parametrize(
    ("kernels", "strides"), [((10, 3, 3, 3), (5, 2, 2, 2)), ((400, 4, 4, 3), (40, 2, 2, 2))]
)
def test_frame_counts_are_those_of_transformers(build_model, open_backbone, kernels, strides):
    model = build_model(conv_kernel=kernels, conv_stride=strides)
    backbone = open_backbone(model)
    shortest = backbone.frame_grid.receptive_field_samples
    lengths = torch.arange(shortest, shortest + 1000)
    assert torch.equal(backbone.num_frames(lengths), model._get_feat_extract_output_lengths(lengths))


@pytest.mark.parametrize("positions", ["rotary", None])
def test_conformers_have_positions_of_other_kinds(
    positions, build_model, open_backbone, clip, relative_error
):
    model = build_model("wav2vec2-conformer", position_embeddings_type=positions)
    expected = layers_of_transformers(copy.deepcopy(model), clip)
    backbone = open_backbone(model)
    with torch.inference_mode():  # keeps positions that take no gradient
        assert relative_error(backbone(clip), expected) <= 1e-5
    assert input_gradient(backbone, clip).any()
    others = ({}, {"position_embeddings_type": "rotary", "rotary_embedding_base": 100})
    others = {open_backbone(build_model("wav2vec2-conformer", **one)).fingerprint for one in others}
    assert len(others | {backbone.fingerprint}) == 3


# Padding


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
def test_a_padded_batch_is_its_clips_one_by_one(
    normalize, model, open_backbone, padded_batch, relative_error
):
    backbone = open_backbone(model, normalize=normalize)
    waveforms, lengths = padded_batch
    layers, counts = backbone(waveforms, lengths), backbone.num_frames(lengths)
    for clip, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        alone = backbone(waveforms[clip : clip + 1, :length])[0]
        assert relative_error(layers[clip, :, :count], alone) <= 1e-5
        assert not layers[clip, :, count:].any()


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_the_batch_norm_of_positions_does_not_reach_the_padding(
    norm, build_model, open_backbone, clip, padded_batch, relative_error
):
    model = build_model("hubert", norm, conv_pos_batch_norm=True)
    statistics = model.encoder.pos_conv_embed.batch_norm
    statistics.running_mean.uniform_(-1.0, 1.0)
    statistics.running_var.uniform_(0.5, 2.0)
    expected = layers_of_transformers(copy.deepcopy(model), clip)
    backbone = open_backbone(model)
    assert relative_error(backbone(clip), expected) <= 1e-5
    waveforms, lengths = padded_batch
    layers = backbone(waveforms, lengths)
    for row, (length, count) in enumerate(zip(lengths, backbone.num_frames(lengths), strict=True)):
        assert relative_error(layers[row, :, :count], backbone(waveforms[row : row + 1, :length])[0]) <= 1e-5


@mixed_masks
def test_transformers_with_a_mask_is_not_where_it_normalizes_over_time(
    variant, model, padded_batch, relative_error
):
    waveforms, lengths = padded_batch
    mask = valid_mask(lengths, waveforms.shape[1]).long()
    padded = layers_of_transformers(model, waveforms, mask)
    count = int(model._get_feat_extract_output_lengths(lengths)[1])
    alone = layers_of_transformers(model, waveforms[1:2, : lengths[1]])[0]
    error = relative_error(padded[1, :, :count], alone)
    leaks = variant[1] == "group" or variant[0] in ("data2vec-audio", "wav2vec2-conformer")
    assert error > 1e-2 if leaks else error <= 1e-5


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
def test_what_stands_in_the_padding_does_not_matter(
    normalize, model, open_backbone, padded_batch, relative_error
):
    backbone = open_backbone(model, normalize=normalize)
    waveforms, lengths = padded_batch
    disturbed = torch.where(valid_mask(lengths, waveforms.shape[1]), waveforms, 3.0)
    assert relative_error(backbone(disturbed, lengths), backbone(waveforms, lengths)) <= 1e-6


def test_the_gradient_is_finite_and_stays_out_of_the_padding(model, open_backbone, padded_batch):
    backbone = open_backbone(model, normalize=True)
    waveforms, lengths = padded_batch
    gradient = input_gradient(lambda w: backbone(w, lengths), waveforms)
    valid = valid_mask(lengths, waveforms.shape[1])
    assert gradient.isfinite().all()
    assert not gradient[~valid].any()
    assert all(row[mask].any() for row, mask in zip(gradient, valid, strict=True))


def test_a_clip_of_one_receptive_field_has_one_frame(open_backbone, clip):
    assert open_backbone()(clip[:, :80]).shape[2] == 1


@pytest.mark.parametrize("stage", ["frontend", "forward"])
def test_a_shorter_clip_is_refused(stage, open_backbone, padded_batch):
    waveforms, lengths = padded_batch
    lengths[1] = 79
    with pytest.raises(SettingError, match="79 samples, one frame needs 80"):
        getattr(open_backbone(), stage)(waveforms, lengths)


def test_transformers_own_attention_is_no_trap(build_model, open_backbone, padded_batch, relative_error):
    eager = build_model("hubert", "layer", attn_implementation="eager")
    waveforms, lengths = padded_batch
    expected = open_backbone(build_model("hubert", "layer"))(waveforms, lengths)
    assert relative_error(open_backbone(eager)(waveforms, lengths), expected) <= 1e-5


# Frozen


def test_no_parameter_takes_a_gradient(backbone, clip):
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(clip).requires_grad


def test_training_mode_changes_nothing(model, open_backbone, clip):
    backbone = open_backbone(model.train())
    assert not any(module.training for module in backbone.modules())
    just_opened = backbone(clip)
    assert backbone.train() is backbone
    assert not any(module.training for module in backbone.modules())
    assert torch.equal(backbone(clip), just_opened)
    assert torch.equal(backbone.eval()(clip), just_opened)


def test_transformers_training_mode_would_change_it(model, clip):
    model.train()
    assert not torch.equal(model(clip).last_hidden_state, model(clip).last_hidden_state)


def test_opening_leaves_another_copy_alone(variant, model, build_model, open_backbone):
    before = copy.deepcopy(model.train().state_dict())
    kinds = [(type(module), module.training) for module in model.modules()]
    open_backbone(build_model(*variant))
    assert [(type(module), module.training) for module in model.modules()] == kinds
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert ((WavLMAttention, True) in kinds) == (variant[0] == "wavlm")


# Lengths, and opening again


def test_lengths_beyond_the_waveforms_are_refused(open_backbone, padded_batch):
    waveforms, lengths = padded_batch
    with pytest.raises(SettingError, match="has 1601, but the batch only 1600"):
        open_backbone().frontend(waveforms, lengths + 1)


def test_more_frames_than_there_are_is_refused(open_backbone):
    backbone = open_backbone()
    with pytest.raises(SettingError, match="has 6, but the batch only 5"):
        backbone.encoder(torch.zeros(1, 5, backbone.num_channels), torch.tensor([6]))


def test_the_same_model_may_be_opened_twice(build_model, generator):
    opened = PretrainedSpeechModel(build_model("wavlm", "group"), name="small")
    waveforms = torch.randn(1, 800, generator=generator)
    assert torch.equal(SpeechBackbone(opened)(waveforms), SpeechBackbone(opened)(waveforms))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.filterwarnings("ignore:precision='bf16'")
def test_the_frontend_of_a_long_clip_is_exact_under_padding(
    precision, build_model, generator, relative_error
):
    backbone = SpeechBackbone(
        PretrainedSpeechModel(build_model("wavlm", "group"), name="small"), precision=precision
    )
    lengths = torch.tensor([300_000, 480_000])
    waveforms = 0.1 * torch.randn(2, 480_000, generator=generator) + 0.05
    waveforms[0, 300_000:] = 0.0
    alone = backbone.frontend(waveforms[:1, :300_000])
    padded = backbone.frontend(waveforms, lengths)[:1, : alone.shape[1]]
    assert relative_error(padded, alone) <= 2e-6
