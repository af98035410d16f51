"""Exporting a classifier: what is trained, a record of the rest, and a page for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.card import write_card
from wavshap_lightning.models.checkpoint import ClassifierRecord, describe_classifier, trained_state
from wavshap_lightning.models.exported import CARD_NAME, NAMES, RECORD_NAME, Exported
from wavshap_lightning.models.origin import own_scores

if TYPE_CHECKING:
    from wavshap_lightning.models.classifier import EmotionClassifier

OF_THE_HUB = (".gitattributes", ".git", ".cache")
UNFINISHED = ".unfinished"

Scores = Mapping[str, Any] | str | PathLike[str]


def export_classifier(
    classifier: EmotionClassifier,
    folder: str | PathLike[str],
    *,
    title: str | None = None,
    scores: Scores | None = None,
    licence: str | None = None,
    backbone: str | None = None,
    place: str | None = None,
) -> Path:
    """Write `model.safetensors`, `classifier.json` and `README.md`; equal classifiers give equal bytes.

    The backbone is not written. Its name, revision and fingerprint are.

    Args:
        classifier: What to export.
        folder: Where to; it is made, or holds an earlier export, which is replaced.
        title: What to call it; the folder's name if None.
        scores: How good it is: a `test.json`, or its content; what the classifier knows itself if None.
        licence: The Hub's short name of the licence, such as `"cc-by-nc-sa-4.0"`; unstated if None.
        backbone: Where others find the very same backbone, by its name on the Hub; as it was opened if None.
        place: What its page says to open; the folder's name if None.

    Returns:
        The folder.

    Raises:
        SettingError: If the folder holds something else, or cannot be written, or the scores cannot be read.
    """
    folder = Path(folder)
    _check_folder(folder)
    record = _describe(classifier, scores, backbone)
    name = folder.resolve().name
    card = write_card(record, title=title or name, licence=licence, place=place or name)
    try:
        _write(folder, Exported(record, trained_state(classifier)), card)
    except OSError as error:
        raise SettingError(
            f"folder={folder} cannot be written: {error.strerror or error}; give another folder"
        ) from error
    return folder


def push_classifier(
    classifier: EmotionClassifier,
    repo_id: str,
    *,
    private: bool = True,
    title: str | None = None,
    scores: Scores | None = None,
    licence: str | None = None,
    backbone: str | None = None,
    message: str = "Upload an emotion classifier",
    api: HfApi | None = None,
) -> str:
    """Export to a repository on the Hub, which is made where there is none.

    Args:
        classifier: What to publish.
        repo_id: `"user/name"`.
        private: Whether a new repository can be seen by its owner alone; an existing one stays as it is.
        title: What to call it; the repository's name if None.
        scores: As in [`export_classifier`][], like `licence` and `backbone`.
        licence: See there.
        backbone: See there.
        message: The commit's.
        api: How the Hub is reached; the login of `hf auth login` if None.

    Returns:
        The address of the commit.

    Raises:
        SettingError: If the repository holds something else, or the backbone is a folder of this machine,
            which nobody else has.
        ModelError: If the Hub refuses or cannot be reached.
    """
    name = backbone or classifier.backbone.settings.name
    if Path(name).expanduser().exists():
        raise SettingError(
            f"backbone={name!r} is a folder of this machine, without which nobody else can open the "
            "classifier; publish it too, and give its name on the Hub as backbone='user/name'"
        )
    api = api or HfApi(library_name="wavshap-lightning")
    with TemporaryDirectory() as folder:
        export_classifier(
            classifier,
            folder,
            title=title or repo_id,
            scores=scores,
            licence=licence,
            backbone=backbone,
            place=repo_id,
        )
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            _check_repository(repo_id, api.list_repo_files(repo_id))
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, allow_patterns=[*NAMES], commit_message=message
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise ModelError(
                f"repo_id={repo_id!r} could not be written: {_first_line(error)}; check the name and the "
                "network, and with 'hf auth whoami' who is logged in"
            ) from error
    return done.commit_url


def _describe(classifier: EmotionClassifier, scores: Scores | None, backbone: str | None) -> ClassifierRecord:
    origin = classifier.origin
    known = origin.scores if scores is None else {**origin.scores, "test": _read_scores(scores)}
    record = describe_classifier(classifier, protocol=origin.protocol, versions=origin.versions, scores=known)
    return replace(record, backbone=replace(record.backbone, **_reference(record.backbone.name, backbone)))


def _reference(name: str, published: str | None) -> dict[str, Any]:
    """A folder by its whole path, since the export may be opened from anywhere."""
    if published is not None:
        return {"name": published, "revision": None}
    return {"name": str(Path(name).expanduser().resolve())} if Path(name).expanduser().is_dir() else {}


def _read_scores(scores: Scores) -> dict[str, float]:
    try:
        content = scores if isinstance(scores, Mapping) else json.loads(Path(scores).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(
            f"scores={scores} cannot be read ({error}); give the test.json of a test, or its content"
        ) from error
    found = own_scores(content) if isinstance(content, Mapping) else {}
    if "uar" not in found:
        raise SettingError(f"scores={scores} holds no uar; give the test.json of a test, or its content")
    return found


def _write(folder: Path, exported: Exported, card: str) -> None:
    """The record last: with half an export, its digest does not fit."""
    files = {CARD_NAME: card.encode(), **exported.files()}
    for name in NAMES:
        write_atomically(folder / name, files[name])


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        found = {path.name for path in folder.iterdir() if not path.name.endswith(UNFINISHED)}
        _check_names(f"folder={folder}", found, "give a new folder, or that of an earlier export")
    elif folder.exists():
        raise SettingError(f"folder={folder} is a file; give a folder to export to")


def _check_repository(repo_id: str, names: list[str]) -> None:
    _check_names(f"repo_id={repo_id!r}", set(names), "give the name of a new repository")


def _check_names(what: str, names: set[str], remedy: str) -> None:
    """Whether there is nothing, or an earlier export and nothing else."""
    others = sorted(names - {*NAMES, *OF_THE_HUB})
    if not others and names - {*OF_THE_HUB} and RECORD_NAME not in names:
        others = sorted(names - {*OF_THE_HUB})
    if others:
        raise SettingError(
            f"{what} holds something else ({', '.join(others[:4])}), which is not overwritten; {remedy}"
        )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
