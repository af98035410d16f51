"""The datamodule: cached and live training are one, and the cache is checked before it is believed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import AuditError, CacheError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.training.data import extraction as sharing
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import StatisticsBatch, WaveformBatch
from wavshap_lightning.training.data.extraction import open_feature_cache

POOLINGS = ("mean", "mean_std", "attentive")


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    return list(loader)


def add_noise(samples, sample_rate):
    return samples + 0.01


@pytest.fixture
def count_extractions(monkeypatch):
    """How many clips the backbone is run over."""
    counts, extract = [], sharing.extract_features

    def count(backbone, clips, statistic, cache):
        counts.append(len(cache.missing(one.key for one in clips)))
        extract(backbone, clips, statistic, cache)

    monkeypatch.setattr(sharing, "extract_features", count)
    return counts


@pytest.mark.parametrize("pooling", POOLINGS)
def test_cached_and_live_batches_give_equal_logits(attach, build_datamodule, pooling):
    cached, live = build_datamodule(), build_datamodule(cache=False)
    module = attach(cached, head=HeadSettings(pooling=pooling)).eval()
    attach(live)
    for make in ("train_dataloader", "val_dataloader"):
        pairs = list(zip(epoch(getattr(cached, make)(), 3), epoch(getattr(live, make)(), 3), strict=True))
        assert pairs
        for from_cache, from_sound in pairs:
            assert isinstance(from_cache, StatisticsBatch)
            assert isinstance(from_sound, WaveformBatch)
            assert torch.equal(from_cache.labels, from_sound.labels)
            assert torch.equal(from_cache.positions, from_sound.positions)
            with torch.no_grad():
                classifier = module.classifier
                difference = from_cache.logits(classifier) - from_sound.logits(classifier)
            assert float(difference.abs().max()) <= 1e-5


def test_labels_stand_in_the_order_of_the_logits_before_and_after_setup(attach, build_datamodule):
    datamodule = build_datamodule(labels=["sad", "happy", "neutral"])
    assert datamodule.labels == ["sad", "happy", "neutral"]
    attach(datamodule, labels=datamodule.labels)
    assert datamodule.labels == ["sad", "happy", "neutral"]
    clips = datamodule.clips("validation")
    for batch in datamodule.val_dataloader():
        for position, label in zip(batch.positions.tolist(), batch.labels.tolist(), strict=True):
            assert datamodule.labels[label] == clips[position].label


def test_a_second_run_finds_everything(tmp_path, attach, build_datamodule, count_extractions):
    for _ in range(2):
        attach(build_datamodule(cache_dir=str(tmp_path)))
    assert sum(count_extractions) == 19
    attach(build_datamodule(cache_dir=str(tmp_path)), stage="test")
    assert sum(count_extractions) == 19 + 6


def test_a_stage_looks_after_its_parts_only(tmp_path, attach, build_datamodule, count_extractions):
    attach(build_datamodule(cache_dir=str(tmp_path)), stage="validate")
    assert sum(count_extractions) == 7


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_cache_with_other_values_is_caught(tmp_path, attach, build_datamodule, opened, pooling):
    """The digests hold, so only the look at the live values can tell."""
    head = HeadSettings(pooling=pooling)
    datamodule = build_datamodule(cache_dir=str(tmp_path))
    statistic = attach(datamodule, head=head).classifier.head.statistic
    keys = [one.key for clips in datamodule.prepared.values() for one in clips]
    cache = open_feature_cache(tmp_path, opened, statistic)
    held = [key for key in keys if key in cache]
    wrong = TensorCache(tmp_path / "elsewhere")
    wrong.write({key: {name: 1.1 * values for name, values in cache.read(key).items()} for key in held})
    for shard in cache.directory.iterdir():
        shard.unlink()
    for shard in wrong.directory.iterdir():
        shard.rename(cache.directory / shard.name)
    with pytest.raises(CacheError, match=r"cached and live logits differ by .*Delete its folder features/"):
        attach(build_datamodule(cache_dir=str(tmp_path)), head=head)


def test_the_check_leaves_the_model_in_its_mode(tmp_path, attach, build_datamodule):
    module = attach(build_datamodule(cache_dir=str(tmp_path)))
    assert module.classifier.training
    assert module.classifier.head.mlp[0].num_batches_tracked == 0
    assert not any(parameter.grad is not None for parameter in module.parameters())


def test_a_transform_turns_the_cache_off_for_training_alone(attach, build_datamodule):
    datamodule = build_datamodule(transform=add_noise)
    attach(datamodule)
    (plain, changed) = (
        epoch(d.train_dataloader()) for d in (build_live(build_datamodule, attach), datamodule)
    )
    assert isinstance(changed[0], WaveformBatch)
    for before, after in zip(plain, changed, strict=True):
        for length, old, new in zip(before.lengths, before.waveforms, after.waveforms, strict=True):
            torch.testing.assert_close(new[:length], old[:length] + 0.01)
    assert isinstance(epoch(datamodule.val_dataloader())[0], StatisticsBatch)
    assert (datamodule.is_cached("train"), datamodule.is_cached("validation")) == (False, True)


def build_live(build_datamodule, attach):
    datamodule = build_datamodule(cache=False)
    attach(datamodule)
    return datamodule


def test_an_unfrozen_backbone_goes_round_the_cache(attach, build_datamodule, backbone_folder):
    datamodule = build_datamodule()
    attach(datamodule, opened=SpeechBackbone(str(backbone_folder), unfreeze_layers=1))
    for loader in (datamodule.train_dataloader(), datamodule.val_dataloader()):
        assert isinstance(next(iter(loader)), WaveformBatch)


def test_what_one_model_cached_is_not_given_to_the_next(attach, build_datamodule, backbone_folder):
    datamodule = build_datamodule()
    attach(datamodule)
    assert datamodule.is_cached("validation")
    attach(datamodule, opened=SpeechBackbone(str(backbone_folder), unfreeze_layers=1))
    assert not datamodule.is_cached("validation")


def test_training_clips_change_their_order_and_others_do_not(attach, build_datamodule):
    datamodule = build_datamodule()
    attach(datamodule)
    orders = [
        [batch.positions.tolist() for batch in epoch(loader, number)]
        for loader in (datamodule.train_dataloader(), datamodule.val_dataloader())
        for number in (0, 1)
    ]
    assert orders[0] != orders[1]
    assert orders[2] == orders[3]


def test_balanced_draws_are_for_training_alone(tmp_path, write_corpus, attach, build_datamodule):
    speakers = {"cy": "train", "ann": "validation", "bob": "test"}
    corpus = write_corpus(tmp_path / "corpus", speakers=speakers)
    datamodule = build_datamodule(root=str(corpus), balanced=True)
    attach(datamodule)
    drawn = Counter(
        int(position)
        for number in range(40)
        for batch in epoch(datamodule.train_dataloader(), number)
        for position in batch.positions
    )
    of_label = Counter()
    for position, count in drawn.items():
        of_label[datamodule.clips("train")[position].label] += count
    assert sum(drawn.values()) == 40 * 7
    assert all(abs(count / 280 - 1 / 3) < 0.1 for count in of_label.values())
    seen = torch.cat([batch.positions for batch in epoch(datamodule.val_dataloader())])
    assert sorted(seen.tolist()) == list(range(6))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("settings", "limit"),
    [({}, 2), ({}, 0.7), ({"balanced": True}, 2), ({"cache": False, "transform": add_noise}, 2)],
)
def test_overfitting_takes_the_same_batches_in_every_epoch(
    build_datamodule, build_module, build_trainer, settings, limit
):
    taken: dict[int, list] = {}

    class Record(Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            taken.setdefault(trainer.current_epoch, []).append(batch.positions.tolist())

    trainer = build_trainer(overfit_batches=limit, max_epochs=3, callbacks=[Record()])
    trainer.fit(build_module(), datamodule=build_datamodule(**settings))
    first, *others = taken.values()
    assert [len(batch) for batch in first] == [4, 4]
    assert others == [first, first]


def test_workers_read_the_same_batches(attach, build_datamodule):
    here, there = build_datamodule(cache=False), build_datamodule(cache=False, num_workers=1)
    for datamodule in (here, there):
        attach(datamodule)
    for a, b in zip(epoch(here.train_dataloader()), epoch(there.train_dataloader()), strict=True):
        assert torch.equal(a.waveforms, b.waveforms)
        assert torch.equal(a.positions, b.positions)


def test_cut_clips_are_cut_in_the_features_too(tmp_path, attach, build_datamodule):
    whole, cut = build_datamodule(), build_datamodule(max_duration_s=0.32)
    attach(whole)
    with pytest.warns(UserWarning, match=r"above 0\.32 s"):
        attach(cut, head=HeadSettings(pooling="attentive"))
    frames = [batch.statistics["num_frames"].max() for batch in epoch(cut.val_dataloader())]
    assert max(frames) <= 0.32 * 50
    assert len(frames) == len(epoch(whole.val_dataloader()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size=1 must be at least 2"),
        ({"num_workers": -1}, "num_workers=-1 must be at least 0"),
    ],
)
def test_numbers_out_of_range_are_told(build_datamodule, settings, message):
    with pytest.raises(SettingError, match=message):
        build_datamodule(**settings)


def test_statistics_need_a_cache(build_datamodule):
    datamodule = build_datamodule()
    assert isinstance(next(iter(datamodule.val_dataloader())), WaveformBatch)
    with pytest.raises(SettingError, match="pass the datamodule and a frozen module"):
        datamodule.statistics(datamodule.prepared["validation"])


def test_clips_are_audited_for_the_frames_of_the_model(write_corpus, tmp_path, build_datamodule):
    corpus = write_corpus(tmp_path / "corpus")
    datamodule = build_datamodule(root=str(corpus))
    datamodule.match(FrameGrid((9000,), (320,), 16_000))
    with pytest.raises(AuditError, match="too short"):
        datamodule.clips("train")
    datamodule.match(FrameGrid((400,), (320,), 8_000))
    assert datamodule.waveforms(datamodule.prepared["train"])[[(0, 0)]].lengths <= 8_000 * 0.6


def test_clips_are_cut_to_what_the_model_takes(build_datamodule):
    datamodule = build_datamodule(max_duration_s=None)
    datamodule.match(FrameGrid((400,), (320,), 16_000, max_frames=15))
    longest_s = (400 + 15 * 320 - 1) / 16_000
    with pytest.warns(UserWarning, match=rf"above {longest_s:.1f}"):
        clips = datamodule.clips("train")
    assert clips
    assert max(one.duration_s for one in datamodule.prepared["train"]) <= longest_s
