"""The folder of a cross-validation: folds that are finished are kept where it is given again."""

from __future__ import annotations

from collections.abc import Callable
from difflib import ndiff
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import write_atomically
from wavshap_lightning.training.fold_result import FoldResult, read_fold
from wavshap_lightning.training.loggers import claim_run_folder

CONFIG_NAME = "config.yaml"


def open_folder(given: str | None, home: Path, configuration: str) -> Path:
    """The folder to go on in, or a new one with the configuration in it.

    Args:
        given: The folder to go on in; None begins anew.
        home: The folder of all runs of this name.
        configuration: All settings, as YAML.

    Raises:
        SettingError: If the folder given was begun with other settings, or is not of a cross-validation.
    """
    if given is None:
        folder = claim_run_folder(home)
        _write(folder / CONFIG_NAME, configuration)
        return folder
    stored = Path(given) / CONFIG_NAME
    if not stored.is_file():
        raise SettingError(f"folder={given} has no {CONFIG_NAME}; give the folder of a cross-validation")
    changes = _changes(stored.read_text(encoding="utf-8"), configuration)
    if changes:
        raise SettingError(
            f"folder={given} was begun with other settings ({'; '.join(changes)}); go on with "
            f"--config {stored}, or begin anew without --folder"
        )
    return Path(given)


def run_folds(folder: Path, run_fold: Callable[[Path, int], FoldResult]) -> list[FoldResult]:
    """The results of all folds, of which those that are not finished are run.

    A fold that was cut off begins anew: its features are in the cache, and the head is trained in minutes.
    """
    results: list[FoldResult] = []
    num_folds = 1
    while len(results) < num_folds:
        fold_folder = folder / f"fold_{len(results)}"
        result = read_fold(fold_folder)
        if result is None:
            result = run_fold(fold_folder, len(results))
            _save(result)
        results.append(result)
        num_folds = len(result.protocol["folds"])
    return results


@rank_zero_only
def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode())


@rank_zero_only
def _save(result: FoldResult) -> None:
    result.save()


def _changes(before: str, now: str) -> list[str]:
    """The first lines that differ, as `- then` and `+ now`."""
    lines = ndiff(before.splitlines(), now.splitlines())
    return [" ".join(line.split()) for line in lines if line.startswith(("- ", "+ "))][:6]
