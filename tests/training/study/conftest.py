"""Studies without recordings: plans of invented clips, and cells with invented predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.scores import Predictions, score_predictions
from wavshap_lightning.training.study.results import CELLS
from wavshap_lightning.training.study.settings import OpenedBackbone, Plan, StudyCorpus, StudySettings

LABELS = ["neutral", "happy", "sad"]


@pytest.fixture(scope="session", name="make_corpus")
def corpus_factory() -> Callable[..., StudyCorpus]:
    """See [`make_corpus`][]."""
    return make_corpus


@pytest.fixture(scope="session", name="make_plan")
def plan_factory() -> Callable[..., Plan]:
    """See [`make_plan`][]."""
    return make_plan


@pytest.fixture(scope="session", name="write_cells")
def cell_writer() -> Callable[..., None]:
    """See [`write_cells`][]."""
    return write_cells


def make_corpus(num_speakers: int = 6, clips_each: int = 12, *, name: str = "toy") -> StudyCorpus:
    """A corpus whose fold k tests speakers k, k + 3, ... and validates on the next ones."""
    clips = [
        {"path": f"{name}/s{who}/c{at}.wav", "corpus": name, "speaker": f"s{who}", "label": at % len(LABELS)}
        for who in range(num_speakers)
        for at in range(clips_each)
    ]
    group = torch.arange(num_speakers).repeat_interleave(clips_each) % 3
    folds = [
        {
            split: (group == (fold + offset) % 3).nonzero()[:, 0].tolist()
            for split, offset in {"train": 2, "validation": 1, "test": 0}.items()
        }
        for fold in range(3)
    ]
    keys = {one: [f"{one}/{clip['path']}" for clip in clips] for one in ("good", "poor")}
    durations = [1.0 + at / 100 for at in range(len(clips))]
    audit: dict[str, Any] = {"summary": {}, "findings": []}
    return StudyCorpus(
        name, "speakers", LABELS, clips, keys, durations, folds, {"name": f"{name}-3-folds"}, audit
    )


def make_plan(corpora: list[StudyCorpus] | None = None, **settings: Any) -> Plan:
    """A plan of two backbones with two layers each, three learning rates and two seeds."""
    corpora = corpora or [make_corpus()]
    given: dict[str, Any] = {"learning_rates": [0.001, 0.01, 0.1], "seeds": 2, "max_epochs": 4, **settings}
    listed = [{"corpus": "folders", "name": one.name} for one in corpora if one.split == "speakers"]
    backbones = [BackboneSettings("good"), BackboneSettings("poor")]
    study = StudySettings("toy", listed, backbones, **given)
    opened = [OpenedBackbone(one.name, 2, 8, f"features/{one.name}") for one in backbones]
    return Plan(asdict(study), corpora, opened)


def write_cells(plan: Plan, folder: Path, *, skill: dict[str, float] | None = None, seed: int = 0) -> None:
    """Write the plan and cells whose logits are noise plus `skill` of the backbone for the right class."""
    generator = torch.Generator().manual_seed(seed)
    cache = TensorCache(folder / CELLS)
    settings = plan.study()
    shape = len(settings.learning_rates), settings.seeds
    for cell in plan.cells():
        corpus = plan.corpora[cell.corpus]
        curves, logits = {}, {}
        for split in ("validation", "test"):
            positions = torch.tensor(corpus.folds[cell.fold][split])
            labels = torch.tensor([corpus.clips[i]["label"] for i in positions.tolist()])
            size = (settings.max_epochs, *shape, len(labels), len(corpus.labels))
            strength = (skill or {"good": 1.5, "poor": 0.5})[cell.backbone]
            found = torch.randn(size, generator=generator) + strength * F.one_hot(labels, size[-1])
            logits[split], curves[split] = found, _uars(found, labels)
        validation, epochs = curves["validation"].max(0)
        entry = {"validation": validation, "epochs": epochs, "positions": positions}
        entry["test_curve"] = curves["test"].movedim(0, -1)
        chosen = {"test_logits": epochs, "leaky_logits": curves["test"].max(0).indices}
        for name, at in chosen.items():
            index = at[None, :, :, None, None].expand(1, *logits["test"].shape[1:])
            entry[name] = logits["test"].gather(0, index)[0]
        cache.write({plan.key(cell): entry})
    plan.save(folder)


def _uars(logits: Float[Tensor, "*heads clips classes"], labels: Tensor) -> Float[Tensor, "*heads"]:
    flat = logits.flatten(0, -3)
    found = [score_predictions(Predictions(one, labels, torch.arange(len(labels))))["uar"] for one in flat]
    return torch.stack(found).reshape(logits.shape[:-2])
