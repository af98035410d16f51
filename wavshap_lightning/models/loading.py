"""Any model as a classifier; checkpoints and scores in the folder of a run."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import isfinite
from os import PathLike
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

from wavshap_lightning.audio.io import AUDIO_SUFFIXES
from wavshap_lightning.errors import CheckpointError, ModelError, SettingError
from wavshap_lightning.files import digest_of
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY, read_checkpoint
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.foreign_heads import open_huggingface
from wavshap_lightning.models.hub import RECORD_NAME
from wavshap_lightning.models.layouts import names_in, recognize
from wavshap_lightning.models.pretrained import Source
from wavshap_lightning.models.record import ClassifierRecord

EXPECTED = (
    "expected a checkpoint (.ckpt), the folder of a run, an exported folder, or an audio-classification "
    "model of Hugging Face (such as WavLM, wav2vec2 or Whisper), in a folder or as user/name on the Hub"
)
BEST = Path("checkpoints", "best.ckpt")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PARTS_OF_A_FOLDER = frozenset({".safetensors", ".json", ".bin"})
NO_HUB_SUFFIXES = frozenset({".ckpt", ".pt", ".pth", ".csv", *PARTS_OF_A_FOLDER, *AUDIO_SUFFIXES})


def load_classifier(
    model: str | PathLike[str],
    *,
    revision: str | None = None,
    backbone: str | PathLike[str] | None = None,
    final_norm: bool | None = None,
) -> EmotionClassifier:
    """Load the classifier of a path or Hub name, in evaluation mode on the CPU.

    Nothing is downloaded unless `model` is a name on the Hub, and no code in a file is executed.

    Args:
        model: A checkpoint; the folder of a run, or of all runs of one name (then the latest), whose best
            checkpoint is loaded; a folder that `save_pretrained` wrote; a Hugging Face folder with an
            audio-classification model; or the Hub name of one of the last two.
        revision: The commit, tag or branch of a name on the Hub.
        backbone: Folder or Hub name under which the backbone of a checkpoint or export is now; None for
            the recorded one. It must have the same weights.
        final_norm: For a Hugging Face model with a weighted sum of layers and a final norm: True if it takes
            the last layer after the norm (transformers 4), False if before (transformers 5). None: after,
            unless the folder is the output of a training with transformers 5, with a warning.

    Raises:
        ModelError: If there is no such model, or its backbone cannot be loaded; the message names what was
            found.
        CheckpointError: If it is damaged, carries pickled code, or belongs to another backbone.
        SettingError: If a revision is given for a local path, or another argument for a model that it does
            not apply to.

    Warns:
        UserWarning: If something had to be assumed; `warnings` of the classifier holds these messages.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        build = _find(model, revision)
        foreign = build.func is open_huggingface
        if foreign and backbone is not None:
            raise SettingError(
                f"backbone={backbone} needs a checkpoint or export; model={model} holds its own"
            )
        if not foreign and final_norm is not None:
            raise SettingError(f"final_norm={final_norm} needs a Hugging Face model; model={model} is none")
        classifier = build(final_norm=final_norm) if foreign else build(backbone=backbone)
    for one in caught:
        warnings.warn(one.message, one.category, stacklevel=2)
    told = (str(one.message) for one in caught if issubclass(one.category, UserWarning))
    classifier.warnings = tuple(dict.fromkeys(told))
    return classifier


def _find(model: str | PathLike[str], revision: str | None) -> partial[EmotionClassifier]:
    """The function that opens a model, called with what it is found to be."""
    path = Path(model).expanduser()
    if isfile(path) or isdir(path):  # noqa: PTH112, PTH113 - those of Path raise for a name that is too long
        if revision is not None:
            raise SettingError(f"revision={revision!r} needs a name on the Hub; model={path} is local")
        return _find_file(path) if path.is_file() else _find_folder(path)
    if model == "tiny":
        raise ModelError(
            "model='tiny' is the embedded backbone, which has no classification head; train one on it with "
            "python train.py, and give its run"
        )
    if not isinstance(model, str) or not _may_be_on_hub(model):
        raise ModelError(f"model={path} does not exist; {EXPECTED}")
    return _find_on_hub(model, revision)


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint that belongs to a path; None if the path is not a run or checkpoint."""
    if path.is_file():
        return path if path.suffix.lower() == BEST.suffix else None
    return _checkpoint_in(path)


def _find_file(path: Path) -> partial[EmotionClassifier]:
    suffix = path.suffix.lower()
    if suffix in AUDIO_SUFFIXES:
        raise ModelError(f"model={path} is a recording; {EXPECTED}, and the recordings after it")
    if suffix in PARTS_OF_A_FOLDER:
        raise ModelError(f"model={path} is one file of a model; give its folder: {path.parent}")
    if suffix != BEST.suffix and (layout := recognize([path.name])):
        raise ModelError(f"model={path} is {layout}")
    try:
        content, prefix = read_checkpoint(path), "classifier."
    except CheckpointError as error:
        if layout := recognize(names_in(path.parent), formats=False):
            raise CheckpointError(f"{error}. Its folder is {layout}") from error
        raise
    weights = content["state_dict"].items()
    state = {name.removeprefix(prefix): value for name, value in weights if name.startswith(prefix)}
    record = ClassifierRecord.from_dict(content[CLASSIFIER_KEY])
    if path.parts[-2:] == BEST.parts:
        record = replace(record, scores=read_scores(path.parent.parent, record.protocol) or record.scores)
    return partial(EmotionClassifier.from_record, record, state)


def _find_folder(folder: Path) -> partial[EmotionClassifier]:
    if (folder / RECORD_NAME).is_file():
        return partial(EmotionClassifier.from_pretrained, folder)
    checkpoint = _checkpoint_in(folder)
    if checkpoint is not None:
        return _find_file(checkpoint)
    if (folder / "config.json").is_file() or (folder / "wav2vec2.ckpt").is_file():
        return partial(open_huggingface, str(folder))
    if layout := recognize(names_in(folder)):
        raise ModelError(f"model={folder} is {layout}")
    raise ModelError(f"model={folder} is a folder {_content(folder)}; {EXPECTED}")


def _checkpoint_in(folder: Path) -> Path | None:
    """The best checkpoint of a run, of the latest of several runs, or of a folder of checkpoints."""
    of_runs = sorted(folder.glob(f"version_*/{BEST}"), key=_number)
    candidates = [folder / BEST, folder / BEST.name, *reversed(of_runs)]
    return next((path for path in candidates if path.is_file()), None)


def models_in(model: str) -> list[str]:
    """The finished folds of a cross-validation, in order; any other model alone.

    Args:
        model: The folder of a cross-validation, or another model.

    Raises:
        ModelError: If none of the folds is finished.
    """
    path = Path(model).expanduser()
    folds = sorted(path.glob("fold_*"), key=lambda fold: (len(fold.name), fold.name)) if isdir(path) else []  # noqa: PTH112
    finished = [str(fold) for fold in folds if (fold / "fold.json").is_file()]
    if folds and not finished:
        raise ModelError(f"model={path}: none of its {len(folds)} folds is finished; resume train.py cv")
    return finished or [model]


def _number(checkpoint: Path) -> int:
    digits = checkpoint.parents[1].name.removeprefix("version_")
    return int(digits) if digits.isdigit() else -1


def _content(folder: Path) -> str:
    """Content of a folder, as the end of a sentence."""
    folds = sorted(path.parents[1] for path in folder.glob(f"fold_*/{BEST}"))
    if folds:
        return (
            f"with {len(folds)} folds of a cross-validation; compare them, or choose one, such as {folds[0]}"
        )
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return "with nothing in it"
    return f"with {', '.join(names[:4])}" + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _may_be_on_hub(name: str) -> bool:
    """True for a name like `user/name` that is no path whose first folder exists.

    Only a few models of the Hub's first days have no user, and none of them opens here.
    """
    path = Path(name)
    begins_here = len(path.parts) > 1 and Path(path.parts[0]).exists()
    return bool(HUB_NAME.fullmatch(name)) and path.suffix.lower() not in NO_HUB_SUFFIXES and not begins_here


def _find_on_hub(name: str, revision: str | None) -> partial[EmotionClassifier]:
    source = Source(name, revision, "model")
    known_as_foreign = source.is_kept("config.json") and not source.is_kept(RECORD_NAME)
    if known_as_foreign or source.file(RECORD_NAME) is None:  # not asking saves waiting without network
        return partial(open_huggingface, name, revision)
    return partial(EmotionClassifier.from_pretrained, name, revision=revision)


CROSS_VALIDATED: tuple[str, ...] = ("uar", "uar_low", "uar_high", "resampled", "wa", "macro_f1", "jsd", "ccc")
CROSS_VALIDATED += tuple(f"{name}_{end}" for name in ("macro_f1", "jsd", "ccc") for end in ("low", "high"))


def read_scores(run: Path, protocol: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores in the folder of a run, and in that of the cross-validation it belongs to.

    Args:
        run: The folder of the run.
        protocol: The split of the classifier; scores of another split are left out.
    """
    scores = {}
    test, folds = _read_json(run / "test.json"), _read_json(run.parent / "cv.json")
    if _same(test, protocol, ("hash", "fold", "digest")):
        scores["test"] = _finite_numbers(test)
    if _same(folds, protocol, ("hash",)):
        known = {name: folds[name] for name in CROSS_VALIDATED if name in folds}
        scores["cross_validation"] = {"folds": len(folds["folds"]), **known}
    return scores


def read_test_scores(path: str | PathLike[str]) -> dict[str, float]:
    """The scores of a `test.json`.

    Raises:
        SettingError: If it cannot be read, or is another file.
    """
    scores = _finite_numbers(_read_json(Path(path).expanduser()))
    if not scores.keys() & {*CROSS_VALIDATED}:
        raise SettingError(f"scores={path} has no readable uar, jsd or ccc; give the test.json of a test")
    return scores


def read_study(path: str | PathLike[str]) -> dict[str, str]:
    """Name and hash of the study in a `study.json`.

    Raises:
        SettingError: If it cannot be read, or is another file.
    """
    content = _read_json(Path(path).expanduser())
    if "systems" not in content:
        raise SettingError(f"study={path} has no readable systems; give the study.json of train.py bench")
    return {"name": str(content.get("name")), "hash": digest_of(content)}


def _finite_numbers(content: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: value for name, value in content.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if isfinite(value)}


def _same(content: Mapping[str, Any], protocol: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    found = content.get("protocol", {})
    return bool(found) and all(found.get(name) == protocol.get(name) for name in names)


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if it is missing or of another program."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


ALL = "all"
# Copies of the checkpoint of some epoch; used only where that epoch has no other.
ALIASES = frozenset({"best", "last"})

# Names of the checkpoints kept during training; a second one of the same epoch is numbered.
KEPT = re.compile(r"epoch_\d+(-v\d+)?")


def choose_epochs(model: str, wanted: str) -> tuple[int | None, dict[int, Path]]:
    """The epoch of a model, and the checkpoints of other epochs of its run.

    Args:
        model: A checkpoint, or the folder of a run.
        wanted: `"all"` but the model's own, or some, such as `"9,19,29"`, in this order.

    Raises:
        SettingError: If the model does not belong to a run, or an epoch was not kept.
        CheckpointError: If a checkpoint of the run is damaged.
    """
    own = checkpoint_of(Path(model).expanduser())
    if own is None:
        raise SettingError(f"epochs={wanted!r}: model={model} is not a run or checkpoint; give one")
    epoch, kept = _epoch_of(own), _epochs_in(own.parent)
    try:
        chosen = (
            [int(word) for word in wanted.split(",")]
            if wanted != ALL
            else [number for number in kept if number != epoch]
        )
    except ValueError as error:
        raise SettingError(f"epochs={wanted!r} must be {ALL}, or numbers such as 9,19,29") from error
    missing = [str(number) for number in chosen if number not in kept]
    if missing or not chosen:
        lacks = f"of {', '.join(missing)} none" if missing else "no other"
        raise SettingError(
            f"epochs={wanted!r}: {own.parent} has checkpoints of the epochs "
            f"{', '.join(map(str, kept)) or 'none'}, and {lacks}; keep more with train.py --run.keep_every 10"
        )
    return epoch, {number: kept[number] for number in chosen}


def _epochs_in(folder: Path) -> dict[int, Path]:
    """Checkpoints of a folder by epoch, in order; other files are ignored."""
    kept = [path for path in folder.glob("*.ckpt") if path.stem in ALIASES or KEPT.fullmatch(path.stem)]
    found: dict[int, Path] = {}
    for path in sorted(kept, key=lambda path: (path.stem in ALIASES, path.name)):
        epoch = _epoch_of(path)
        if epoch is not None:
            found.setdefault(epoch, path)
    return dict(sorted(found.items()))


def _epoch_of(checkpoint: Path) -> int | None:
    """None where the checkpoint does not say."""
    epoch = read_checkpoint(checkpoint).get("epoch")
    return epoch if isinstance(epoch, int) else None
