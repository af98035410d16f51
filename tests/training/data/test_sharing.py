"""Several processes: each clip is extracted on one rank, and each counts once in the scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from wavshap_lightning.training.data import extraction as sharing
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.extraction import fill_cache
from wavshap_lightning.training.data.preparation import KeyedClip, list_clips


@pytest.fixture
def keyed(corpus, cache_folder):
    clips = list_clips("manifest", str(corpus), None, cache_folder)
    return [KeyedClip(clip, clip.name, 0.5 + 0.01 * index) for index, clip in enumerate(clips)]


@pytest.fixture
def extracted(monkeypatch):
    """The keys that each call extracts; no backbone is run."""
    calls = []

    def extract(backbone, clips, statistic, cache):
        calls.append(cache.missing(one.key for one in clips))
        cache.write({key: {"mean": torch.zeros(1)} for key in calls[-1]})

    monkeypatch.setattr(sharing, "extract_features", extract)
    return calls


@pytest.fixture
def build_rank(build_trainer):
    """`(number, world_size) -> Trainer` of one rank, whose barriers let through."""

    def build_rank(number, world_size):
        trainer = build_trainer()
        trainer.strategy.global_rank, trainer.strategy.world_size = number, world_size
        return trainer

    return build_rank


def test_ranks_share_what_is_missing(tmp_path, build_module, build_rank, keyed, extracted):
    """On disks of their own they must end up with everything nonetheless."""
    classifier = build_module().classifier
    for number in range(3):
        cache = TensorCache(tmp_path / str(number))
        cache.write({keyed[0].key: {"mean": torch.zeros(1)}})
        fill_cache(build_rank(number, 3), classifier, [*keyed, keyed[1]], cache)
        assert not cache.missing(one.key for one in keyed)
    shares, elsewhere = extracted[0::2], extracted[1::2]
    together = [key for share in shares for key in share]
    assert sorted(together) == sorted(one.key for one in keyed[1:])
    assert {len(share) for share in shares} == {8}
    for share, others in zip(shares, elsewhere, strict=True):
        assert sorted(share + others) == sorted(together)


def test_nothing_is_extracted_where_nothing_is_missing(
    tmp_path, build_module, build_rank, keyed, extracted, monkeypatch
):
    cache, trainer, reached = TensorCache(tmp_path), build_rank(0, 1), []
    monkeypatch.setattr(trainer.strategy, "barrier", reached.append)
    for _ in range(2):
        fill_cache(trainer, build_module().classifier, keyed, cache)
    assert [len(keys) for keys in extracted] == [len(keyed), 0, 0, 0]
    assert len(reached) == 4


PROGRAM = """
    import json, sys, warnings
    from pathlib import Path
    warnings.simplefilter("ignore")
    import lightning as L
    import torch
    from wavshap_lightning.models.backbone import BackboneSettings
    from wavshap_lightning.training.data import extraction as sharing
    from wavshap_lightning.training.callbacks import default_callbacks
    from wavshap_lightning.training.checkpoints import AtomicCheckpointIO
    from wavshap_lightning.training.data.datamodule import EmotionDataModule
    from wavshap_lightning.training.module import EmotionModule
    from wavshap_lightning.training.monitoring.monitor import ExplanationMonitor

    corpus, backbone, folder = sys.argv[1:]
    extracted, extract = [], sharing.extract_features
    def count(backbone, clips, statistic, cache):
        extracted.extend(cache.missing(one.key for one in clips))
        extract(backbone, clips, statistic, cache)
    sharing.extract_features = count

    torch.set_num_threads(1)
    L.seed_everything(0, verbose=False)
    datamodule = EmotionDataModule("manifest", corpus, batch_size=4, cache_dir=f"{folder}/cache")
    module = EmotionModule(datamodule.labels, BackboneSettings(backbone))
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, logger=False, default_root_dir=folder,
        num_sanity_val_steps=0, enable_model_summary=False, plugins=[AtomicCheckpointIO()],
        callbacks=[
            *default_callbacks(folder=Path(folder)),
            ExplanationMonitor(clips=["cy_happy_0"], num_draws=4, stages=("frames",)),
            L.pytorch.callbacks.EarlyStopping("explain/drift/first", mode="max", patience=9),
        ],
    )
    trainer.fit(module, datamodule=datamodule)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.test(module, datamodule=datamodule, verbose=False)
    tested = {name: float(value) for name, value in trainer.callback_metrics.items()}
    Path(folder, f"rank_{trainer.global_rank}.json").write_text(json.dumps({
        "extracted": extracted, "metrics": metrics | tested,
        "validated": len(module.validation_predictions.labels), "tested": len(module.test_predictions.labels),
    }))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # here for its weights alone
def test_two_processes_train_as_one(
    tmp_path, corpus, backbone_folder, build_module, build_datamodule, build_trainer
):
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(PROGRAM))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, str(script), str(corpus), str(backbone_folder), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank_{number}.json").read_text()) for number in (0, 1)]
    assert ranks[0]["metrics"] == ranks[1]["metrics"]
    assert 0 < ranks[1]["metrics"]["explain/intraclass_correlation"] <= 1
    assert (tmp_path / "figures/epochs/cy_happy_0.png").is_file()
    assert [(one["validated"], one["tested"]) for one in ranks] == [(7, 6), (7, 6)]
    shares = [set(one["extracted"]) for one in ranks]
    assert not shares[0] & shares[1]
    assert len(shares[0] | shares[1]) == 25
    # The same weights, looked at by one process alone.
    module, datamodule = build_module(), build_datamodule()
    checkpoint = str(tmp_path / "checkpoints" / "last.ckpt")
    trainer = build_trainer()
    (found,) = trainer.validate(
        module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False
    )
    for name, value in found.items():
        assert ranks[0]["metrics"][name] == pytest.approx(value, abs=1e-6), name
    for name in ("test.json", "test_confusion.csv", "test_speakers.csv", "protocol.json"):
        assert (tmp_path / name).is_file()
