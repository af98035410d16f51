"""Settings of a study, and its plan: the clips, folds and backbones from which all cells follow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import digest_of, write_json
from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.pooling import PoolingName, Statistic
from wavshap_lightning.training.module import OptimizerSettings

FORMAT_VERSION = 1
"""Of the cells; another one computes them again."""

PLAN = "plan.json"
DATA_KEYS = {"name", "corpus", "root", "options", "labels", "label_map", "protocol", "max_samples", "seed"}
DATA_KEYS |= {"max_duration_s", "on_bad_clip", "allow_shared_speakers"}
"""Keys of a corpus: those of `data` in a configuration that do not belong to training."""

Layer = int | Literal["learned"]
Axis = Literal["backbone", "layer", "pooling"]


@dataclass(frozen=True)
class Transfer:
    """Corpora to train on, and another one to test on.

    Args:
        train: Names of corpora of the study, trained on together.
        test: Name of the corpus that is tested.
    """

    train: list[str]
    test: str


@dataclass(frozen=True)
class StudySettings:
    """Settings of a study.

    Args:
        name: Name of the study.
        corpora: Corpora, each with the keys of `data` in a configuration, such as corpus, root and protocol.
            A key `name` tells two entries of one corpus apart.
        backbones: Frozen backbones, each with the keys of `model.backbone`.
        roots: Folder of each corpus by its name, instead of the `root` of its entry.
        layers: Layers to train heads on, "learned" for the mix of all; "all" is every layer and the mix.
        poolings: Poolings over time: mean, mean_std.
        learning_rates: Peak learning rates.
        seeds: Number of training seeds of each head.
        max_epochs: Epochs of training; validation speakers choose one of them.
        compare: What the rows of the table differ in: backbone, layer, pooling. The rest is chosen for each
            fold on its validation speakers.
        inflation: Also score splits that leak: random clips, and settings chosen on the test fold.
        label_space: Common classes of the corpora: a name in `configs/label_spaces`, or new names of the
            labels of each corpus.
        across: Which corpora are trained on and tested across.
        hidden_size: Size of the head's hidden layer; 0 makes heads linear.
        dropout: Dropout rate of the pooled features and of the hidden layer.
        batch_size: Clips in a batch.
        weight_decay: Weight decay of weight matrices.
        warmup_share: Share of the training steps in which the learning rate rises.
        cache_dir: Folder of the feature cache; `$WAVSHAP_CACHE` or `~/.cache/wavshap-lightning` if None.
        out: Folder of the results; `runs/studies/NAME` if None.

    Raises:
        SettingError: If a list is empty or has an entry twice, a number is out of range, or a corpus is not
            one of the study.
    """

    name: str
    corpora: list[dict[str, Any]]
    backbones: list[BackboneSettings]
    roots: dict[str, str] = field(default_factory=dict)
    layers: Literal["all"] | list[Layer] = "all"
    poolings: list[PoolingName] = field(default_factory=lambda: ["mean", "mean_std"])
    learning_rates: list[float] = field(default_factory=lambda: [0.0005, 0.001, 0.002, 0.005, 0.01])
    seeds: int = 5
    max_epochs: int = 30
    compare: list[Axis] = field(default_factory=lambda: ["backbone"])
    inflation: bool = False
    label_space: str | dict[str, dict[str, str | None]] | None = None
    across: list[Transfer] = field(default_factory=list)
    hidden_size: int = 128
    dropout: float = 0.2
    batch_size: int = 32
    weight_decay: float = 1e-2
    warmup_share: float = 0.1
    cache_dir: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        for name in ("corpora", "backbones", "layers", "poolings", "learning_rates", "compare"):
            given = getattr(self, name)
            if not given or any(given.count(one) > 1 for one in given if given != "all"):
                raise SettingError(f"{name}={given} must have one entry or more, each once")
        for name, least in {"seeds": 1, "max_epochs": 1, "batch_size": 2, "learning_rates": 1e-12}.items():
            given = getattr(self, name)
            if not least <= min(given if isinstance(given, list) else [given]):
                raise SettingError(f"{name}={given} must be at least {least}")
        if other := {*self.poolings} - {"mean", "mean_std"}:
            raise SettingError(f"poolings={sorted(other)} need all frames; a study takes mean and mean_std")
        if any(not one.frozen for one in self.backbones):
            raise SettingError(
                "backbones: a study trains heads alone; leave unfreeze_layers and lora_rank out"
            )
        names = self.corpus_names()
        named = {*self.roots}.union(*((*one.train, one.test) for one in self.across))
        if unknown := sorted(named - {*names}):
            raise SettingError(f"corpora={names} lack {unknown}, which are named in roots or across")

    @property
    def optimizer(self) -> OptimizerSettings:
        """Settings of the optimizer, but for its learning rate."""
        return OptimizerSettings(weight_decay=self.weight_decay, warmup_share=self.warmup_share)

    @classmethod
    def from_options(cls, **values: Any) -> StudySettings:  # noqa: ANN401 - of several types
        """Settings from plain JSON types, as files and command lines have them."""
        kinds = {"backbones": BackboneSettings, "across": Transfer}
        return cls(**values | {name: [kind(**one) for one in values[name]] for name, kind in kinds.items()})

    def head(self, layer: Layer, pooling: PoolingName) -> HeadSettings:
        """Settings of a head, as `train.py fit` would have them."""
        return HeadSettings(layer, pooling, self.hidden_size, self.dropout)

    def corpus_names(self) -> list[str]:
        """Name of each corpus, its own or that of its entry.

        Raises:
            SettingError: If an entry has no corpus, or two have one name.
        """
        if without := [one for one in self.corpora if not isinstance(one.get("corpus"), str)]:
            raise SettingError(f"corpora={without[0]} must name its corpus, as in: corpus: ravdess")
        if unknown := sorted({*chain(*self.corpora)} - DATA_KEYS):
            raise SettingError(f"corpora: keys={unknown} must be of {', '.join(sorted(DATA_KEYS))}")
        names = [str(one.get("name", one["corpus"])) for one in self.corpora]
        if len({*names}) < len(names):
            raise SettingError(f"corpora={names} have one name; give each a key name of its own")
        return names

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return Path(self.out or f"runs/studies/{self.name}").expanduser()

    @property
    def statistic(self) -> Statistic:
        """Statistic of the layers that all poolings need: moments include the means."""
        return "moments" if "mean_std" in self.poolings else "mean"


@dataclass(frozen=True)
class StudyCorpus:
    """Clips of a corpus, or of several that are trained and tested across, and how each fold divides them.

    Args:
        name: Name of the corpus, or of the transfer.
        split: How clips are divided; rows of the table are of "speakers".
        labels: The classes, in the order of the logits.
        clips: File, corpus and speaker of each clip, and the index of its class.
        keys: Content key of each clip, by backbone: backbones may differ in the longest clip.
        durations_s: Length of each clip in seconds.
        folds: Indices of the clips of `train`, `validation` and `test`, for each fold.
        protocol: Protocol record; see `EmotionDataModule.protocol_record`.
        audit: What the audit found, in all folds.
        conditions: Measured conditions of the recordings by class.
    """

    name: str
    split: Literal["speakers", "random clips", "transfer"]
    labels: list[str]
    clips: list[dict[str, Any]]
    keys: dict[str, list[str]]
    durations_s: list[float]
    folds: list[dict[str, list[int]]]
    protocol: dict[str, Any]
    audit: dict[str, Any]
    conditions: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The corpus as `study.json` has it, without its clips."""
        facts = {name: getattr(self, name) for name in ("labels", "protocol", "audit", "conditions")}
        speakers = len({clip["speaker"] for clip in self.clips})
        return {"corpus": self.name, "clips": len(self.clips), "speakers": speakers, **facts}


@dataclass(frozen=True)
class OpenedBackbone:
    """Facts of a backbone that cells depend on.

    Args:
        name: Short name in tables.
        num_layers: Number of layers, the projected frames included.
        layer_size: Size of a frame.
        features: Folder of its features in the cache; everything that decides their values decides its name.
    """

    name: str
    num_layers: int
    layer_size: int
    features: str


class Cell(NamedTuple):
    """Heads that are trained together: those of all learning rates and seeds.

    Args:
        corpus: Index of the corpus in the plan.
        fold: Index of the fold.
        backbone: Name of the backbone.
        layer: Index of the layer, or "learned".
        pooling: Pooling over time.
    """

    corpus: int
    fold: int
    backbone: str
    layer: Layer
    pooling: PoolingName


@dataclass(frozen=True)
class Plan:
    """Everything that decides the results of a study.

    Args:
        settings: The settings, in plain JSON types.
        corpora: The corpora.
        backbones: The backbones.
    """

    settings: dict[str, Any]
    corpora: list[StudyCorpus]
    backbones: list[OpenedBackbone]

    def study(self) -> StudySettings:
        """The settings as a record."""
        return StudySettings.from_options(**self.settings)

    def cells(self) -> Iterator[Cell]:
        """All cells; those that read the same features stand together."""
        settings = self.study()
        for backbone, (index, corpus) in product(self.backbones, enumerate(self.corpora)):
            every: list[Layer] = [*range(backbone.num_layers), "learned"]
            chosen = every if settings.layers == "all" else settings.layers
            for layer, pooling, fold in product(chosen, settings.poolings, range(len(corpus.folds))):
                yield Cell(index, fold, backbone.name, layer, pooling)

    def backbone(self, name: str) -> OpenedBackbone:
        """The backbone of that name."""
        return next(one for one in self.backbones if one.name == name)

    def key(self, cell: Cell) -> str:
        """Digest of everything that decides the entry of a cell."""
        corpus, backbone = self.corpora[cell.corpus], self.backbone(cell.backbone)
        deciding = ("learning_rates", "seeds", "max_epochs", "hidden_size", "dropout", "batch_size")
        recipe = {name: self.settings[name] for name in (*deciding, "weight_decay", "warmup_share")}
        used = {
            split: [corpus.keys[cell.backbone][i] for i in of]
            for split, of in corpus.folds[cell.fold].items()
        }
        labels = {
            split: [corpus.clips[i]["label"] for i in of] for split, of in corpus.folds[cell.fold].items()
        }
        recipe |= {"format": FORMAT_VERSION, "features": Path(backbone.features).name, "labels": labels}
        recipe |= {"clips": used, "classes": len(corpus.labels), "layer": cell.layer, "pooling": cell.pooling}
        return digest_of(recipe)

    def save(self, folder: Path) -> None:
        """Write `plan.json`, from which cells can be trained and read without the recordings."""
        write_json(folder / PLAN, asdict(self))


def read_plan(folder: Path) -> Plan:
    """The plan of a study that was begun in this folder.

    Raises:
        SettingError: If there is none, or it was changed.
    """
    try:
        content = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        corpora = [StudyCorpus(**one) for one in content["corpora"]]
        return Plan(content["settings"], corpora, [OpenedBackbone(**one) for one in content["backbones"]])
    except FileNotFoundError as error:
        raise SettingError(f"out={folder} has no {PLAN}; run the study before its report") from error
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError(f"out={folder}: {PLAN} cannot be read ({error!r}); run the study again") from error
