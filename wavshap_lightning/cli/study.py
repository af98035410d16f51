"""`train.py bench` and `train.py layers`: a paper's table, and the score of every layer of a backbone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from wavshap_lightning.cli.terminal import say, tell
from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import read_text, write_atomically, write_csv, write_json
from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.training.corpus_run import strongest_parts
from wavshap_lightning.training.losses import LossSettings
from wavshap_lightning.training.study.bench import prepare, train_cells
from wavshap_lightning.training.study.comparisons import compare_study
from wavshap_lightning.training.study.findings import find_faults, limits_of
from wavshap_lightning.training.study.results import summarize
from wavshap_lightning.training.study.settings import DATA_KEYS, Plan, StudySettings, read_plan
from wavshap_lightning.viz.figures import figure_png, plot_layer_curve
from wavshap_lightning.viz.report.study import write_study_page


def read_stress(text: str) -> dict[str, Any]:
    """Content of `stress.json`.

    Raises:
        ValueError: If it is none.
    """
    found = json.loads(text)
    if not isinstance(found, dict) or not {"run", "clips", "ladder", "gaps"} <= found.keys():
        raise ValueError("it is not what train.py stress writes")
    return found


BESIDE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "stress": ("stress/stress.json", read_stress),
    "attributions": ("explanations/emotions.csv", strongest_parts),
}
"""Parts of `study.json` that other commands write into the folder of the study, and how these are read."""


def bench(
    settings: StudySettings, *, workers: int | None = None, shard: str = "1/1", report: bool = False
) -> None:
    """Train and test all systems of a study, nested, and write its tables.

    Args:
        settings: The study.
        workers: Number of processes, each on one core; all cores if None.
        shard: Job I of N, such as 1/4 of an array of four; each trains its share, and --report merges them.
        report: Only write the tables of a study whose heads are trained.

    Raises:
        WavshapError: If something is absent or does not fit.
    """
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
    if not found or int(found[1]) > int(found[2]):
        raise SettingError(f"shard={shard!r} must be I/N with I from 1 to N, such as 1/4")
    folder, part = settings.folder, (int(found[1]), int(found[2]))
    if report:
        plan = read_plan(folder)
        if plan.study() != settings:
            raise SettingError(f"out={folder} has other settings; run the study, or give {folder}/study.yaml")
    else:
        plan = _train(settings, workers, part)
    if part[1] > 1 and not report:
        say("Next", f"python train.py bench {folder}/study.yaml --report, when all {part[1]} shards are done")
        return
    study = _report(plan, folder)
    for one in study["systems"]:
        name = f"{one['corpus']}, {one['name']}"
        tell(f"{name:<40} {one['uar']:.3f}{_interval(one, 'uar_')} {one.get('letters', '')}")
    say("Written to", f"{folder}/study.html, study.json, table.csv, table.tex and table.md")


def layers(config: Namespace) -> None:
    """Score every layer of a backbone and the mix of all, and write `layers.csv`, `.json` and `.png`.

    Args:
        config: A configuration of `fit`, with out, seeds and workers.

    Raises:
        WavshapError: If something is absent or does not fit.
    """
    head, optimizer, data = config.model.head, config.model.optimizer, config.data
    if config.model.tasks or LossSettings(**config.model.loss.as_dict()) != LossSettings():
        raise SettingError("model.tasks, model.loss: layers are scored with classes alone; leave both out")
    shared = {name: head[name] for name in ("hidden_size", "dropout")}
    shared |= {name: optimizer[name] for name in ("weight_decay", "warmup_share")}
    settings = StudySettings(
        config.run.name,
        [{key: data[key] for key in DATA_KEYS & {*data.keys()} if data[key] is not None}],
        [BackboneSettings(**config.model.backbone.as_dict())],
        poolings=[head.pooling],
        learning_rates=[optimizer.learning_rate],
        seeds=config.seeds,
        max_epochs=config.trainer.max_epochs,
        compare=["layer"],
        batch_size=data.batch_size,
        cache_dir=data.cache_dir,
        out=config.out or f"runs/layers/{config.run.name}",
        **shared,
    )
    folder, study = settings.folder, _report(_train(settings, config.workers, (1, 1)), settings.folder)
    rows, protocol = study["layers"], study["corpora"][0]["protocol"]
    names = [*rows[0]]
    write_csv(folder / "layers.csv", [names, *([row[name] for name in names] for row in rows)])
    write_json(folder / "layers.json", {"layers": rows, "protocol": protocol})
    write_atomically(folder / "layers.png", figure_png(plot_layer_curve(rows, protocol["name"])))
    for row in rows:
        tell(f"layer {row['layer']!s:<10} {row['uar']:.3f}" + _interval(row))
    say("Written to", f"{folder}/layers.png, layers.csv, layers.json and study.html")


def _train(settings: StudySettings, workers: int | None, part: tuple[int, int]) -> Plan:
    text = yaml.safe_dump(asdict(settings), sort_keys=False)
    write_atomically(settings.folder / "study.yaml", text.encode())
    plan = prepare(settings, part)
    train_cells(plan, workers or os.cpu_count() or 1, part)
    return plan


def _report(plan: Plan, folder: Path) -> dict[str, Any]:
    study = compare_study(summarize(plan, folder), plan, folder) | _read_beside(folder)
    study |= {"findings": find_faults(study), "limits": limits_of(study)}
    write_json(folder / "study.json", study)
    write_study_page(study, folder)
    return study


def _read_beside(folder: Path) -> dict[str, Any]:
    """Stress test and attributions that other commands wrote into the folder of the study."""
    found: dict[str, Any] = {}
    for name, (file, read) in BESIDE.items():
        path = folder / file
        try:
            found |= {name: read(read_text(path))} if path.is_file() else {}
        except (OSError, ValueError) as error:
            raise SettingError(
                f"path={path} cannot be read ({error}); write it again, or remove it"
            ) from error
    return found


def _interval(row: dict[str, Any], prefix: str = "") -> str:
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    return "" if low is None else f" [{low:.3f}, {high:.3f}]"
