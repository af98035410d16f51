"""Monitoring a training: nothing changes by it, the same clips every time, and no failure stops anything."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import lightning as L  # noqa: N812
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger

from wavshap_lightning.corpora.manifest import read_manifest, save_manifest
from wavshap_lightning.errors import AttributionError, SettingError
from wavshap_lightning.explainer.cues import explain_cues
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.training.callbacks import ReproducibleEpochs
from wavshap_lightning.training.loggers import RunSettings, build_loggers
from wavshap_lightning.training.monitoring import writer
from wavshap_lightning.training.monitoring.monitor import ExplanationMonitor
from wavshap_lightning.training.tasks import TaskSettings

ONE = "cy_happy_0"


def build_monitor(**settings):
    """One clip, few draws, one stage; figures take most of the time of a test that is not about them."""
    quick = {"clips": [ONE], "num_draws": 4, "stages": ("frames",), "faithfulness": False, "figures": False}
    return ExplanationMonitor(**{**quick, **settings})


class Diary(L.Callback):
    """Writes down what training comes to: all that a trace could be left in."""

    def __init__(self):
        self.pages = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.pages.append(
            {
                "weights": {name: value.clone() for name, value in pl_module.state_dict().items()},
                "optimizer": [
                    value.clone()
                    for state in trainer.optimizers[0].state_dict()["state"].values()
                    for value in state.values()
                ],
                "training": [module.training for module in pl_module.modules()],
                "chance": torch.get_rng_state(),
            }
        )


@pytest.fixture
def train(build_trainer, build_module, build_datamodule, annotated, tmp_path):
    """`(*callbacks, epochs=2, head=None, cache=True, folder="run", **trainer) -> (trainer, diary)`: a fit."""

    def train(
        *callbacks, epochs=2, head=None, cache=True, folder="run", ckpt_path=None, tasks=None, **settings
    ):
        diary, known = Diary(), {"root": str(annotated)} if tasks else {}
        settings = {"logger": build_loggers(RunSettings(wandb="off"), tmp_path / folder)[0], **settings}
        trainer = build_trainer(
            callbacks=[ReproducibleEpochs(), *callbacks, diary], max_epochs=epochs, **settings
        )
        module, data = (
            build_module(head=head or HeadSettings(), tasks=tasks),
            build_datamodule(cache=cache, **known),
        )
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return trainer, diary

    return train


@pytest.fixture(scope="session")
def annotated(corpus, tmp_path_factory):
    """The usual corpus with votes and values; a clip of the validation has neither of them nor a class."""
    path = tmp_path_factory.mktemp("annotated") / "clips.jsonl"
    clips = [
        replace(
            clip,
            votes=((clip.label, 2.0), ("neutral", 1.0), ("other", 1.0))[clip.label == "neutral" :],
            values=(("arousal", 2.0 + place % 4), ("valence", 3.0)),
        )
        for place, clip in enumerate(read_manifest(corpus))
    ]
    save_manifest(path, [clip if clip.name != "cy_sad_1" else bare(clip) for clip in clips])
    return path


def bare(clip):
    return replace(clip, label="unlabeled", votes=(), values=())


def read_rows(folder):
    with (folder / "explanations.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


# Leaves no trace


@pytest.mark.parametrize(
    "case",
    [
        {"monitor": {"clips": None, "num_hardest": 1, "num_wrong": 1, "stages": ("frames", "layers")}},
        {"monitor": {"stages": ("waveform",), "faithfulness": True}, "accumulate_grad_batches": 2},
        {"head": HeadSettings(pooling="attentive"), "logger": False},
        {"cache": False, "monitor": {"max_seconds": 0.2}},
        {"precision": "bf16-mixed"},
    ],
    ids=["probes", "waveform-accumulated", "attentive", "live-seconds", "bf16"],
)
def test_a_training_ends_as_it_would_without(train, case):
    watching = build_monitor(**case.pop("monitor", {}))
    with_it, without = train(watching, folder="with", **case)[1], train(folder="without", **case)[1]
    assert same(with_it.pages, without.pages)


def test_figures_leave_no_trace_and_scores_are_the_same(train, tmp_path):
    watched, diary = train(build_monitor(figures=True), folder="with", epochs=1)
    plain, other = train(folder="without", epochs=1)
    assert same(diary.pages, other.pages)
    ours = {name: value for name, value in watched.callback_metrics.items() if "explain/" not in name}
    assert same(ours, dict(plain.callback_metrics))
    assert (tmp_path / "with/figures/epoch_000" / f"{ONE}.png").stat().st_size > 10_000


TASKS = {
    "distribution": TaskSettings("distribution", labels=["neutral", "happy", "sad"]),
    "labels": TaskSettings("labels", labels=["neutral", "happy", "sad"]),
    "dimensions": TaskSettings("dimensions", labels=["arousal", "valence"], scale=(1.0, 7.0)),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_training_of_each_task_ends_as_it_would_without(task, train, tmp_path):
    watching = build_monitor(clips=None, num_hardest=1, num_wrong=1)
    case = {"tasks": [TASKS[task]], "epochs": 1}
    watched, diary = train(watching, folder="with", **case)
    assert same(diary.pages, train(folder="without", **case)[1].pages)
    rows = [row for row in read_rows(tmp_path / "with") if row["scope"] == "clip"]
    assert {row["why"] for row in rows} == {"class", "hardest"}
    of_label = {row["target"] for row in rows if row["target"] == row["label"]}
    assert of_label == (set() if task == "dimensions" else {"neutral", "happy", "sad"})
    curves = {name for name in watched.callback_metrics if name.startswith("explain/entropy")}
    names = {f"/{name}" for name in ("arousal", "valence")} if task == "dimensions" else {""}
    assert curves == {f"explain/entropy{name}" for name in names}


def test_the_monitor_explains_the_dimensions_it_is_told(train, tmp_path):
    tasks = [TaskSettings(), TASKS["dimensions"]]
    train(build_monitor(targets=["valence"], figures=True), tasks=tasks, epochs=1)
    rows = read_rows(tmp_path / "run")
    assert {row["target"] for row in rows if row["scope"] == "clip"} == {"valence"}
    assert [row["label"] for row in rows if row["scope"] == "class"] == ["arousal", "valence"]
    drawn = {path.name for path in (tmp_path / "run" / "figures" / "epoch_000").iterdir()}
    assert drawn == {f"{ONE}_valence.png"}
    with pytest.raises(AttributionError, match="target=\\['joy'\\] is not a label of this classifier"):
        train(build_monitor(targets=["joy"]), tasks=tasks, folder="other")


def test_layers_are_surveyed_under_the_labels_of_the_task(train, tmp_path):
    train(build_monitor(), tasks=[TaskSettings("labels", labels=["sad", "happy"])], epochs=1)
    surveyed = [row for row in read_rows(tmp_path / "run") if row["scope"] == "class"]
    assert [row["label"] for row in surveyed] == ["sad", "happy"]


# What is written


def test_a_run_leaves_figures_sounds_numbers_and_all_epochs(train, tmp_path):
    train(build_monitor(figures=True, stages=("frames", "layers"), faithfulness=True))
    run = tmp_path / "run"
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    named = {path for path in files if "_predicted" not in path}
    assert named == {
        *(f"figures/{moment}/{ONE}.png" for moment in ("epoch_000", "epoch_001", "epochs")),
        *(f"explanations/epoch_00{epoch}/{ONE}.explanation" for epoch in (0, 1)),
        f"sounds/{ONE}.wav",
        "explanations.csv",
        "metrics.csv",
        "probes.json",
    }
    assert json.loads((run / "probes.json").read_text())["validation"][0]["why"] == "named"
    rows = read_rows(run)
    (last,) = [row for row in rows if (row["scope"], row["epoch"], row["target"]) == ("clip", "1", "happy")]
    for name in (
        "gap/frames",
        "gap/layers",
        "intraclass_correlation",
        "entropy",
        "share/speech",
        "layers/02",
    ):
        assert 0 <= float(last[name]) <= 1
    for name in ("drift/first", "drift/previous", "comprehensiveness", "sufficiency", "score"):
        assert float(last[name]) == pytest.approx(float(last[name]))
    assert {row["label"] for row in rows if row["scope"] == "class"} == {"neutral", "happy", "sad"}


@pytest.mark.slow
def test_every_number_is_a_curve_that_other_callbacks_can_watch(train, tmp_path):
    best = ModelCheckpoint(tmp_path / "best", monitor="explain/drift/first", mode="min")
    early = EarlyStopping("explain/share/speech", mode="min", patience=1, check_on_train_epoch_end=False)
    trainer, _ = train(best, early, build_monitor(), epochs=4, enable_checkpointing=True)
    assert trainer.current_epoch < 4
    assert best.best_model_path
    names = {name for name in trainer.callback_metrics if name.startswith("explain/")}
    assert {
        "explain/gap/frames",
        "explain/intraclass_correlation",
        "explain/certain",
        "explain/shortcut_alarm",
    } <= names
    assert {f"explain/layers/{layer:02d}/sad" for layer in range(3)} <= names


def test_a_curve_that_fails_does_not_stop_those_who_watch_it(train, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(Explainer, "explain", fail)
    best = ModelCheckpoint(tmp_path / "best", monitor="explain/entropy", mode="min")
    early = EarlyStopping("explain/intraclass_correlation", mode="max", patience=5)
    with pytest.warns(UserWarning, match="RuntimeError: broken"):
        trainer, _ = train(best, early, build_monitor(), epochs=3, enable_checkpointing=True)
    assert trainer.current_epoch == 3
    assert not any(name.startswith("explain/entropy") for name in trainer.logged_metrics)


def test_only_some_epochs_are_explained_and_layers_in_all(train, tmp_path):
    train(build_monitor(every_n_epochs=2), epochs=4)
    rows = read_rows(tmp_path / "run")
    assert [row["epoch"] for row in rows if row["scope"] == "clip" and row["target"] == "happy"] == list(
        "023"
    )
    assert [row["epoch"] for row in rows if row["label"] == "sad" and row["scope"] == "class"] == list("0123")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_run_that_goes_on_has_the_same_clips_and_the_same_numbers(train, tmp_path):
    settings = {"clips": None, "num_hardest": 1, "num_wrong": 1}
    train(build_monitor(**settings), epochs=3, folder="whole")

    def checkpoints():
        return ModelCheckpoint(tmp_path / "kept", filename="last", enable_version_counter=False)

    class Killed(L.Callback):
        def on_train_epoch_start(self, trainer, _):
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    run = {"epochs": 3, "folder": "cut", "enable_checkpointing": True}
    with pytest.raises(SystemExit):
        train(build_monitor(**settings), checkpoints(), Killed(), **run)
    train(build_monitor(**settings), checkpoints(), ckpt_path=tmp_path / "kept/last.ckpt", **run)
    assert read_rows(tmp_path / "cut") == read_rows(tmp_path / "whole")
    probes = [(tmp_path / name / "probes.json").read_text() for name in ("cut", "whole")]
    assert probes[0] == probes[1]


def test_a_test_and_a_validation_are_explained_too(build_trainer, build_module, build_datamodule, tmp_path):
    monitor = build_monitor(figures=True, clips=None, per_class=0, num_hardest=1, num_wrong=0)
    trainer = build_trainer(callbacks=[monitor], logger=build_loggers(RunSettings(wandb="off"), tmp_path)[0])
    module = build_module()
    trainer.validate(module, datamodule=build_datamodule(), verbose=False)
    (found,) = trainer.test(module, datamodule=build_datamodule(), verbose=False)
    assert 0 <= found["explain_test/share/speech"] <= 1
    assert list((tmp_path / "figures/validation").glob("cy_*.png"))
    assert list((tmp_path / "figures/test").glob("di_*.png"))


# Failures


def test_a_clip_that_vanishes_is_named_once_an_epoch_and_training_goes_on(train, monkeypatch, tmp_path):
    explain = Explainer.explain

    def vanish(self, clip, *given, **more):
        if Path(clip.path).stem == ONE:
            raise FileNotFoundError(f"no such file: {clip.path}")
        return explain(self, clip, *given, **more)

    monkeypatch.setattr(Explainer, "explain", vanish)
    with pytest.warns(UserWarning, match=f"{ONE}: FileNotFoundError") as told:
        _, diary = train(build_monitor(figures=True, clips=[ONE, "cy_sad_1"]), folder="with")
    assert len([one for one in told if "explanations, epoch_" in str(one.message)]) == 2
    assert same(diary.pages, train(folder="without")[1].pages)
    assert (tmp_path / "with/figures/epochs/cy_sad_1.png").is_file()


def test_a_logger_that_raises_is_told_and_the_folder_has_the_figure(train, tmp_path, monkeypatch):
    from lightning.pytorch.loggers import TensorBoardLogger

    class Refusing:
        def __getattr__(self, name):
            if name in ("add_image", "add_audio"):
                raise OSError("disk full")
            return lambda *_, **__: None

    logger = TensorBoardLogger(tmp_path / "board")
    monkeypatch.setattr(TensorBoardLogger, "experiment", Refusing())
    with pytest.warns(UserWarning, match=r"its figure in TensorBoard: OSError: disk full"):
        train(
            build_monitor(figures=True),
            logger=[build_loggers(RunSettings(wandb="off"), tmp_path / "run")[0], logger],
            epochs=1,
        )
    assert (tmp_path / "run/figures/epoch_000" / f"{ONE}.png").is_file()


def test_a_figure_that_cannot_be_drawn_costs_only_itself(train, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError

    monkeypatch.setattr(writer, "plot", refuse)
    with pytest.warns(UserWarning, match="its figure: ValueError: without a message"):
        train(build_monitor(figures=True), epochs=1)
    assert (tmp_path / "run/figures/epochs" / f"{ONE}.png").is_file()


def test_memory_that_does_not_suffice_at_all_is_told(train, monkeypatch):
    def never(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Explainer, "explain", never)
    with pytest.warns(UserWarning, match=f"{ONE}: OutOfMemoryError"):
        train(build_monitor(), epochs=1)


def test_clips_that_the_budget_leaves_out_are_told(train, tmp_path):
    with pytest.warns(UserWarning, match="clips are left out by the budget"):
        train(build_monitor(clips=None, max_seconds=1e-9), epochs=1)
    assert not [row for row in read_rows(tmp_path / "run") if row["scope"] == "clip"]


# Baselines


def test_baselines_are_recordings_of_the_training_split_unless_they_are_named(train, monkeypatch, corpus):
    given, explain = [], Explainer.explain

    def noted(explainer, *arguments, recordings=(), **more):
        given.append([one.path for one in recordings])
        return explain(explainer, *arguments, recordings=recordings, **more)

    monkeypatch.setattr(Explainer, "explain", noted)
    train(build_monitor())
    training = {str(clip.path) for clip in read_manifest(corpus) if clip.split == "train"}
    assert given[0]
    assert {*given[0]} <= training
    assert given == given[:1] * 2  # the same in every epoch
    given.clear()
    train(build_monitor(baselines="noise"), epochs=1)
    assert given == [[]]


# What it cannot work with


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs=0 must be at least 1"),
        ({"num_draws": 2}, "num_draws=2 must be at least 4"),
        ({"max_seconds": 0.0}, "max_seconds=0.0 must be a number greater than 0"),
        ({"stages": ("sound",)}, "stages='sound' must be one of"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        ExplanationMonitor(**settings)


def test_a_module_of_another_kind_is_refused(build_trainer):
    with pytest.raises(SettingError, match="use these, or no ExplanationMonitor"):
        ExplanationMonitor().setup(build_trainer(), L.LightningModule(), "fit")


def test_a_clip_that_is_not_there_is_told_with_an_example(train):
    with pytest.warns(UserWarning, match="clips='nobody' matches 0 of 7 clips of this split"):
        train(build_monitor(clips=["nobody"]), epochs=1)


@pytest.mark.slow
def test_the_folder_is_that_of_the_first_logger(train, tmp_path):
    logger = CSVLogger(tmp_path / "csv")
    train(build_monitor(figures=True), logger=logger, epochs=1)
    assert list((tmp_path / "csv").rglob(f"figures/epoch_000/{ONE}.png"))


def test_a_run_without_a_folder_is_written_to_that_of_the_trainer(train, tmp_path):
    class Remote(Logger):
        name, version = "remote", "0"

        def log_metrics(self, metrics, step=None):
            pass

        def log_hyperparams(self, params):
            pass

    train(build_monitor(), logger=Remote(), epochs=1)
    assert {row["scope"] for row in read_rows(tmp_path)} == {"clip", "class", "epoch"}


def test_cues_of_probe_clips_are_those_of_the_command(train, tmp_path):
    """Towards the mean of the speaker's other clips of the split, for the label."""
    trainer, _ = train(build_monitor(cues="speaker"), epochs=1)
    (row,) = (one for one in read_rows(tmp_path / "run") if one["clip"] == ONE and one["target"] == "happy")
    clips = {clip.name: clip for clip in trainer.datamodule.clips("validation")}
    found = explain_cues(
        trainer.lightning_module.classifier.eval(),
        clips.pop(ONE),
        reference=[*clips.values()],
        target="happy",
    )
    shown = {
        name.removeprefix("cues/"): float(row[name]) for name in row if name.startswith("cues/") and row[name]
    }
    assert len(shown) > 3
    assert shown == pytest.approx(found.rows, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("cues", "message"),
    [("corpus", r"train it with data\.num_voices"), ("nowhere.wav", "is no file and none of")],
)
def test_a_reference_that_no_probe_clip_has_is_refused_before_training(train, cues, message):
    with pytest.raises(SettingError, match=message):
        train(build_monitor(cues=cues))
