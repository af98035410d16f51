"""Laws of feature extraction: each clip as the backbone gives it, once, under a key that says all."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from transformers import WavLMModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from wavshap_lightning.audio.io import hash_audio_file
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.errors import AudioError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.pooling import summarize_layers
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.training.data import extraction as features
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.data.extraction import extract_features, open_feature_cache
from wavshap_lightning.training.data.preparation import KeyedClip, clip_key


@pytest.fixture(scope="module")
def keyed(corpus, opened):
    clips = read_manifest(corpus)[:9]
    return [
        KeyedClip(clip, clip_key(hash_audio_file(clip.path), clip), len(read_waveform(clip, 16_000)) / 16_000)
        for clip in clips
    ]


@pytest.fixture
def short_batches(monkeypatch):
    monkeypatch.setattr(features, "CPU_BATCH_S", 1.5)


def one_by_one(backbone, clip, statistic):
    waveform = read_waveform(clip, backbone.sample_rate)[None]
    with torch.no_grad():
        layers = backbone(waveform)
    summary = summarize_layers(layers, torch.tensor([layers.shape[2]]), statistic)
    return {name: values[0] for name, values in summary.items() if name != "num_frames"}


@pytest.mark.parametrize("statistic", ["mean", "moments", "frames"])
def test_features_are_those_of_the_clips_one_by_one(tmp_path, opened, keyed, statistic, short_batches):
    cache = open_feature_cache(tmp_path, opened, statistic)
    extract_features(opened, keyed, statistic, cache)
    for one in keyed:
        found, expected = cache.read(one.key), one_by_one(opened, one.clip, statistic)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-5)


class Runs:
    """The batches that the backbone is run over, as `(clips, seconds with padding)`, and its memory."""

    def __init__(self):
        self.batches, self.most_clips = [], 99


@pytest.fixture
def runs(monkeypatch):
    runs, forward = Runs(), SpeechBackbone.forward

    def note(backbone, waveforms, lengths):
        runs.batches.append((len(waveforms), waveforms.numel() / 16_000))
        if len(waveforms) > runs.most_clips:
            raise torch.OutOfMemoryError("out of memory")
        return forward(backbone, waveforms, lengths)

    monkeypatch.setattr(SpeechBackbone, "forward", note)
    return runs


def test_only_what_is_missing_is_computed(tmp_path, opened, keyed, runs, short_batches):
    cache = open_feature_cache(tmp_path, opened, "mean")
    extract_features(opened, keyed[:4], "mean", cache)
    runs.batches.clear()
    extract_features(opened, [*keyed, keyed[0], keyed[-1]], "mean", cache)
    assert sum(clips for clips, _ in runs.batches) == len(keyed) - 4
    runs.batches.clear()
    extract_features(opened, keyed, "mean", cache)
    assert not runs.batches


def test_a_small_backbone_is_run_on_one_thread(tmp_path, opened, keyed, threads, monkeypatch):
    during, forward = set(), SpeechBackbone.forward
    monkeypatch.setattr(SpeechBackbone, "forward", lambda *inputs: during.add(threads[0]) or forward(*inputs))
    extract_features(opened, keyed[:2], "mean", open_feature_cache(tmp_path, opened, "mean"))
    assert (during, threads) == ({1}, [4])


@pytest.mark.parametrize("fits", [1, 2])
def test_a_batch_too_large_for_memory_is_halved(tmp_path, opened, keyed, runs, fits):
    whole = open_feature_cache(tmp_path / "whole", opened, "mean")
    extract_features(opened, keyed, "mean", whole)
    runs.batches.clear()
    runs.most_clips = fits
    halved = open_feature_cache(tmp_path / "halved", opened, "mean")
    extract_features(opened, keyed, "mean", halved)
    assert max(clips for clips, _ in runs.batches) == len(keyed)
    for one in keyed:
        torch.testing.assert_close(halved.read(one.key)["mean"], whole.read(one.key)["mean"])


def test_a_clip_too_large_for_memory_is_an_error(tmp_path, opened, keyed, runs):
    runs.most_clips = 0
    with pytest.raises(torch.OutOfMemoryError):
        extract_features(opened, keyed, "mean", open_feature_cache(tmp_path, opened, "mean"))


def test_an_error_keeps_what_was_finished(tmp_path, opened, keyed, short_batches):
    broken = KeyedClip(Clip(tmp_path / "missing.wav", "sad"), "missing", 0.01)  # shortest, so it comes last
    cache = open_feature_cache(tmp_path, opened, "mean")
    with pytest.raises(AudioError, match=r"missing\.wav"):
        extract_features(opened, [*keyed, broken], "mean", cache)
    assert len(cache.missing(one.key for one in keyed)) < len(keyed)


def test_large_entries_go_into_several_shards(tmp_path, opened, keyed, monkeypatch, short_batches):
    monkeypatch.setattr(features, "SHARD_BYTES", 1)
    cache = open_feature_cache(tmp_path, opened, "mean")
    extract_features(opened, keyed, "mean", cache)
    assert len(list(cache.directory.glob("*.safetensors"))) > 1
    assert not open_feature_cache(tmp_path, opened, "mean").missing(one.key for one in keyed)


def test_the_batches_are_within_the_limit(tmp_path, opened, keyed, runs, short_batches):
    extract_features(opened, keyed, "mean", open_feature_cache(tmp_path, opened, "mean"))
    assert sum(clips for clips, _ in runs.batches) == len(keyed)
    assert 1 < len(runs.batches) < len(keyed)
    assert all(sound_s <= 1.5 for _, sound_s in runs.batches)
    wasted_s = sum(sound_s for _, sound_s in runs.batches) - sum(one.duration_s for one in keyed)
    assert wasted_s < 0.1 * sum(one.duration_s for one in keyed)  # neighbors in length share a batch


def test_a_clip_counts_with_the_silence_that_the_model_adds(tmp_path, keyed, runs, monkeypatch):
    monkeypatch.setattr(features, "CPU_BATCH_S", 5.0)
    sizes = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    model = WhisperEncoder(WhisperConfig(**sizes, max_source_positions=100))  # a window of 2 s
    backbone = SpeechBackbone(PretrainedSpeechModel(model, name="small"))
    extract_features(backbone, keyed, "mean", open_feature_cache(tmp_path, backbone, "mean"))
    assert [clips for clips, _ in runs.batches] == [2, 2, 2, 2, 1]


def test_a_clip_longer_than_the_limit_stands_alone(tmp_path, opened, keyed, runs, monkeypatch):
    monkeypatch.setattr(features, "CPU_BATCH_S", 0.01)
    extract_features(opened, keyed, "mean", open_feature_cache(tmp_path, opened, "mean"))
    assert [clips for clips, _ in runs.batches] == [1] * len(keyed)


def test_the_key_is_content_and_span_and_not_the_name(tmp_path, corpus):
    clip = read_manifest(corpus)[0]
    renamed = tmp_path / "other.wav"
    renamed.write_bytes(clip.path.read_bytes())
    sha256 = hash_audio_file(clip.path)
    assert clip_key(hash_audio_file(renamed), replace(clip, path=renamed)) == clip_key(sha256, clip)
    changed = bytearray(clip.path.read_bytes())
    changed[-1] ^= 1
    renamed.write_bytes(changed)
    spans = [clip, replace(clip, end_s=0.2), replace(clip, start_s=0.1, end_s=0.2)]
    keys = {clip_key(sha256, span) for span in spans} | {clip_key(hash_audio_file(renamed), clip)}
    assert len(keys) == 4


def test_whatever_decides_the_values_decides_the_folder(tmp_path, opened, backbone_folder):
    other = WavLMModel.from_pretrained(backbone_folder)
    with torch.no_grad():
        next(iter(other.encoder.layers)).final_layer_norm.bias[0] += 1e-6
    caches = [
        open_feature_cache(tmp_path, opened, "mean"),
        open_feature_cache(tmp_path, opened, "moments"),
        open_feature_cache(tmp_path, SpeechBackbone(str(backbone_folder), precision="bf16"), "mean"),
        open_feature_cache(tmp_path, SpeechBackbone(PretrainedSpeechModel(other, name="other")), "mean"),
    ]
    assert len({cache.directory for cache in caches}) == len(caches)
    again = open_feature_cache(tmp_path, SpeechBackbone(str(backbone_folder)), "mean")
    assert again.directory == caches[0].directory
    assert isinstance(again, TensorCache)


@pytest.mark.parametrize("changed", ["soundfile", "soxr"])
def test_another_reader_has_a_cache_of_its_own(tmp_path, opened, monkeypatch, changed):
    before = open_feature_cache(tmp_path, opened, "mean").directory
    assert open_feature_cache(tmp_path, opened, "mean").directory == before
    monkeypatch.setattr(features, "version", lambda name: "99" if name == changed else version(name))
    assert open_feature_cache(tmp_path, opened, "mean").directory != before
