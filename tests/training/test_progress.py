"""Bars that say how far a run is: one a training, in a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from wavshap_lightning.training import progress
from wavshap_lightning.training.progress import RunProgress, progress_bar


@pytest.fixture
def screen(monkeypatch):
    """`(is_terminal) -> function that gives what was shown so far`."""

    def screen(*, is_terminal):
        file = io.StringIO()
        console = Console(file=file, force_terminal=is_terminal, width=100, color_system=None)
        monkeypatch.setattr(progress, "Console", lambda **_: console)
        return file.getvalue

    return screen


@pytest.fixture
def run(build_trainer, build_module, build_datamodule, screen):
    """`(is_terminal, **trainer settings) -> what was shown` of a fit, a validation and a test."""

    def run(*, is_terminal, **settings):
        bar, module, datamodule = RunProgress(), build_module(), build_datamodule()
        trainer = build_trainer(callbacks=[bar], enable_progress_bar=True, **settings)
        shown = screen(is_terminal=is_terminal)
        trainer.fit(module, datamodule=datamodule)
        trainer.validate(module, datamodule=datamodule, verbose=False)
        trainer.test(module, datamodule=datamodule, verbose=False)
        return shown()

    return run


def test_a_bar_counts_what_is_done(screen):
    shown = screen(is_terminal=True)
    with progress_bar("Checking clips", 3) as on_progress:
        for done in (1, 2, 3):
            on_progress(done)
    assert "Checking clips" in shown()
    assert "3/3" in shown()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_nothing_to_do_shows_nothing(screen, is_terminal):
    shown = screen(is_terminal=is_terminal)
    with progress_bar("Making clips", 3):
        pass
    assert not shown()


def test_other_ranks_show_nothing(screen, monkeypatch):
    monkeypatch.setattr(progress.rank_zero_only, "rank", 1)
    shown = screen(is_terminal=True)
    with progress_bar("Checking clips", 3) as on_progress:
        on_progress(1)
    assert not shown()


def test_a_terminal_shows_one_bar_for_each_stage(run):
    last_lines = [line.rsplit("\r", 1)[-1] for line in run(is_terminal=True, max_epochs=3).splitlines()]
    bars = [line for line in last_lines if "━" in line]
    titles = [line.replace("\x1b[2K", "").split()[0] for line in bars]
    stages = [title for title in dict.fromkeys(titles) if title not in ("Checking", "Running")]
    assert stages == ["Training", "Validating", "Testing"]
    assert "epoch 3/3" in next(line for line in reversed(bars) if "Training" in line)
    assert "val UAR" in next(line for line in reversed(bars) if "Training" in line)


def test_a_log_has_a_line_an_epoch(run):
    lines = [line for line in run(is_terminal=False, max_epochs=3).splitlines() if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all("loss " in line and "val UAR " in line for line in lines)


def test_a_training_by_steps_has_a_bar_too(run):
    assert "epoch 2" in run(is_terminal=False, max_epochs=-1, max_steps=5)


def test_a_bar_can_be_switched_off(build_trainer, build_module, build_datamodule, screen):
    bar = RunProgress()
    bar.disable()
    build_trainer(callbacks=[bar], enable_progress_bar=True).fit(
        build_module(), datamodule=build_datamodule()
    )
    shown = screen(is_terminal=True)
    bar._open("Testing", 3.0)
    assert not shown()
    bar.enable()
    bar._open("Testing", 3.0)
    bar.on_exception()
    assert "Testing" in shown()


def test_clips_that_are_explained_are_counted_over_all_processes(build_trainer, screen, monkeypatch):
    bar, trainer = RunProgress(), build_trainer()
    monkeypatch.setattr(progress, "_num_predicted", lambda _trainer: 3.0)
    monkeypatch.setattr(progress, "SAID_EVERY_S", -1.0)
    shown = screen(is_terminal=False)
    bar.on_predict_start(trainer)
    for _ in range(3):
        bar.on_predict_batch_end(trainer)
    bar.on_predict_end(trainer)
    lines = [line.split(",")[0] for line in shown().splitlines()]
    assert lines[:3] == ["1/3 clips", "2/3 clips", "3/3 clips"]
    assert lines[-1].startswith("Explaining")
    assert "a second" in shown()
