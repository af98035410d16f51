"""Wav2Vec2-BERT and AST, against transformers' feature extractors and models."""

from __future__ import annotations

import json

import pytest
import torch
from published import AST, BERT, shake
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForSequenceClassification,
    Wav2Vec2BertModel,
)

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.foreign_heads import open_huggingface
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.models.pooling import summarize_layers
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

LABELS = {0: "angry", 1: "happy", 2: "sad"}
POSITIONS = ["relative_key", "relative", "rotary", None]
LENGTHS = (10_000, 8321, 1360)  # 61, 50 and 7 frames, of which Wav2Vec2-BERT takes pairs


def build(model_class, config):
    """A model with weights of a real scale, so that its logits differ between clips."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval()
        shake(model)
    return model


def bert(model_class=Wav2Vec2BertForSequenceClassification, **config):
    return build(model_class, Wav2Vec2BertConfig(id2label=LABELS, **BERT | config))


def ast(**config):
    return build(ASTForAudioClassification, ASTConfig(id2label=LABELS, **AST | config))


def extractor_of(model, **settings):
    if model.config.model_type == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor(**settings)
    return ASTFeatureExtractor(**{"num_mel_bins": 40, "max_length": 64, **settings})


def save(model, folder, **settings):
    """A folder as it is published."""
    model.save_pretrained(folder)
    extractor_of(model, **settings).save_pretrained(folder)
    return str(folder)


def features_of(model, clips, **settings):
    arrays = [clip.numpy() for clip in clips]
    return extractor_of(model, **settings)(arrays, sampling_rate=16_000, return_tensors="pt")


def open_backbone(model, **options):
    base = getattr(model, model.base_model_prefix, model)
    return SpeechBackbone(PretrainedSpeechModel(base, name="small", **FOLLOWED[type(model)]), **options)


FOLLOWED = {
    Wav2Vec2BertModel: {},
    Wav2Vec2BertForSequenceClassification: {},
    ASTForAudioClassification: {"followed": {"mean": -4.2677393, "std": 4.5689974}},
}


@pytest.fixture
def clips(generator):
    """Noise whose level changes every 10 ms by as much as that of speech, with an offset."""
    found = []
    for length in LENGTHS:
        levels = torch.randn(length // 160 + 1, generator=generator).exp().repeat_interleave(160)[:length]
        found.append(0.01 + 0.02 * levels * torch.randn(length, generator=generator))
    return found


@pytest.fixture
def batch(clips):
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    padded[2, LENGTHS[2] :] = 0.5  # what lies beyond a clip must not matter
    return padded, torch.tensor(LENGTHS)


# Frames


@pytest.mark.parametrize("build_model", [bert, ast])
def test_frames_are_those_of_the_feature_extractor(build_model, batch, clips, relative_error):
    model = build_model()
    backbone = open_backbone(model)
    expected, found = features_of(model, clips), backbone.frontend(*batch)
    counts, alone = backbone.num_frames(batch[1]).tolist(), [backbone.frontend(one[None]) for one in clips]
    assert counts == ([30, 25, 3] if build_model is bert else [64, 64, 64])
    if build_model is bert:
        assert counts == expected["attention_mask"].sum(1).tolist()
    for row, one, count in zip(range(3), alone, counts, strict=True):
        values = expected[model.main_input_name][row, :count]
        assert relative_error(found[row, :count], values) <= 1e-5
        assert relative_error(one[0], values) <= 1e-5
        assert not found[row, count:].any()


def test_the_shortest_clip_has_one_frame_and_a_shorter_one_none():
    for model, shortest in ((bert(), 560), (ast(), 400)):
        backbone = open_backbone(model)
        assert bool(backbone(torch.randn(1, shortest)).isfinite().all())
        with pytest.raises(SettingError, match=f"one frame needs {shortest}"):
            backbone(torch.randn(1, shortest - 1))


def test_a_clip_longer_than_the_window_is_refused():
    backbone, longest = open_backbone(ast()), 400 + 64 * 160 - 1
    assert bool(backbone(torch.randn(1, longest)).isfinite().all())
    with pytest.raises(SettingError, match=f"{longest + 1} samples, the model takes {longest}"):
        backbone(torch.randn(1, longest + 1))
    with pytest.raises(SettingError, match="pad_to_window=False needs a model"):
        open_backbone(ast(), pad_to_window=False)


@pytest.mark.parametrize("build_model", [bert, ast])
def test_gradients_reach_the_waveform(build_model, clips):
    backbone, clip = open_backbone(build_model()), clips[1][None]
    probe = torch.randn(backbone(clip).shape, generator=torch.Generator().manual_seed(1))

    def score(waveforms):
        return (backbone(waveforms) * probe).sum()

    inputs = clip.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(inputs), inputs)
    step = 0.01 * clip.abs().mean() * torch.nn.functional.normalize(gradient) * clip.shape[1] ** 0.5
    change = (score(clip + 0.01 * step) - score(clip - 0.01 * step)) / 0.02
    assert float((gradient * step).sum()) == pytest.approx(float(change), rel=1e-2)


@pytest.mark.parametrize("build_model", [bert, ast])
def test_silence_has_finite_layers_and_gradients(build_model):
    silence = torch.zeros(1, 4000, requires_grad=True)
    layers = open_backbone(build_model())(silence)
    (gradient,) = torch.autograd.grad(layers.square().sum(), silence)
    assert bool(layers.isfinite().all())
    assert bool(gradient.isfinite().all())


# Layers


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_layers_are_those_of_transformers_in_a_padded_batch_and_alone(
    positions, batch, clips, relative_error
):
    model = bert(Wav2Vec2BertModel, position_embeddings_type=positions)
    expected = []
    for clip in clips:
        outputs = model(**features_of(model, [clip]), output_hidden_states=True)
        expected.append(torch.stack(outputs.hidden_states, 1)[0])
    backbone = open_backbone(model)
    found, counts = backbone(*batch), backbone.num_frames(batch[1]).tolist()
    for clip, layers, own, count in zip(clips, found, expected, counts, strict=True):
        assert relative_error(layers[:, :count], own[:, :count]) <= 1e-5
        assert relative_error(backbone(clip[None])[0], own[:, :count]) <= 1e-5
        assert not layers[:, count:].any()


@torch.no_grad()
@pytest.mark.parametrize("positions", ["relative", "rotary"])
@pytest.mark.filterwarnings("ignore:precision='bf16'")
def test_a_lower_precision_leaves_no_trace_in_the_positions(positions, clips, relative_error):
    model = bert(Wav2Vec2BertModel, position_embeddings_type=positions)
    before = open_backbone(model)(clips[1][None])
    lowered = open_backbone(model, precision="bf16")(clips[1][None])
    assert 1e-4 < relative_error(lowered, before) < 0.1
    if positions == "rotary":  # transformers keeps them for the next clip of this length, on any device
        model.encoder.embed_positions.cached_rotary_positional_embedding.fill_(torch.nan)
    assert torch.equal(open_backbone(model)(clips[1][None]), before)


@torch.no_grad()
def test_layers_may_be_left_out_unfrozen_and_adapted(batch):
    whole = open_backbone(bert())(*batch)
    assert torch.equal(open_backbone(bert(), last_layer=1)(*batch), whole[:, :2])
    trained = open_backbone(bert(), unfreeze_layers=1)
    names = [name for name, one in trained.named_parameters() if one.requires_grad]
    assert names
    assert all(name.startswith("model.encoder.layers.1.") for name in names)
    pytest.importorskip("peft")
    for model, projections in ((bert(), ("linear_q", "linear_v")), (ast(), ("q_proj", "v_proj"))):
        adapted = open_backbone(model, lora_rank=2)
        names = [name for name, one in adapted.named_parameters() if one.requires_grad]
        assert len(names) == 2 * 2 * 2
        assert all(any(one in name for one in projections) for name in names)


@torch.no_grad()
def test_ast_has_one_layer_of_one_step_whose_statistics_give_the_same_logits(batch, tmp_path):
    classifier = open_huggingface(save(ast(), tmp_path))
    assert classifier.stages == ("frames", "waveform")
    layers, counts = classifier.backbone(*batch), classifier.backbone.num_frames(batch[1])
    assert layers.shape == (3, 1, 1, 32)
    statistics = summarize_layers(layers, counts, classifier.head.statistic)
    torch.testing.assert_close(classifier.head.classify_statistics(statistics), classifier(*batch))


# Classifiers


@torch.no_grad()
@pytest.mark.parametrize(
    ("build_model", "config"),
    [
        (bert, {}),
        *((bert, {"use_weighted_layer_sum": True, "position_embeddings_type": one}) for one in POSITIONS),
        (ast, {}),
        (ast, {"qkv_bias": False, "layer_norm_eps": 0.1}),
    ],
)
def test_logits_are_those_of_transformers_in_a_padded_batch_and_alone(
    build_model, config, batch, clips, tmp_path
):
    model = build_model(**config)
    expected = torch.cat([model(**features_of(model, [clip])).logits for clip in clips])
    classifier = load_classifier(save(model, tmp_path / "model"))
    alone = torch.cat([classifier(clip[None]) for clip in clips])
    scale = expected.abs().max()
    assert scale > 0.3
    assert (expected - expected.mean(0)).abs().max() > 0.03
    assert (classifier(*batch) - expected).abs().max() <= 1e-5 * scale
    assert (alone - expected).abs().max() <= 1e-5 * scale
    classifier.save_pretrained(tmp_path / "export")
    assert torch.equal(load_classifier(tmp_path / "export")(*batch), classifier(*batch))


@torch.no_grad()
def test_mean_and_deviation_of_the_feature_extractor_are_followed(clips, tmp_path):
    model, settings = ast(), {"mean": -6.0, "std": 3.0}
    classifier = open_huggingface(save(model, tmp_path / "own", **settings))
    expected = model(**features_of(model, clips[:1], **settings)).logits
    assert (classifier(clips[0][None]) - expected).abs().max() <= 1e-5 * expected.abs().max()
    usual = open_huggingface(save(model, tmp_path / "usual"))
    assert usual.backbone.fingerprint != classifier.backbone.fingerprint


@pytest.mark.parametrize(
    ("build_model", "settings", "hint"),
    [
        (bert, {"stride": 3}, "stride=3 of its preprocessor must be 2"),
        (bert, {"num_mel_bins": 40}, "num_mel_bins=40 of its preprocessor must be 80"),
        (bert, {"return_attention_mask": False}, "return_attention_mask=False of its preprocessor"),
        (ast, {"max_length": 128}, "max_length=128 of its preprocessor must be 64"),
        (ast, {"do_normalize": False}, "do_normalize=False of its preprocessor must be True"),
        (ast, {"std": "wide"}, "could not be opened: could not convert string to float"),
    ],
)
def test_another_feature_extractor_is_refused(build_model, settings, hint, tmp_path):
    folder = save(build_model(), tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    for open_model in (open_huggingface, SpeechBackbone):
        with pytest.raises(ModelError, match=hint):
            open_model(folder)


def test_adapters_of_the_model_are_refused(tmp_path):
    for name, options in (("plain", {}), ("more", {"use_intermediate_ffn_before_adapter": True})):
        model = bert(Wav2Vec2BertModel, add_adapter=True, **options)
        folder = save(model, tmp_path / name)
        with pytest.raises(ModelError, match="add_adapter=True"):
            SpeechBackbone(folder)
        model.config.architectures = None
        model.config.save_pretrained(folder)
        with pytest.raises(ModelError, match="add_adapter=True"):
            open_huggingface(folder)
