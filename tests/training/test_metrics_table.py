"""`metrics.csv`: a row a step, whole at any time, gone on with when a run is resumed."""

from __future__ import annotations

import csv

from lightning.pytorch.utilities import rank_zero_only

from wavshap_lightning.training.loggers import MetricsTable


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_logged_at_one_step_is_one_row(tmp_path):
    table = MetricsTable(tmp_path)
    table.log_metrics({"val/uar": 0.5, "epoch": 0}, step=9)
    table.save()
    table.log_metrics({"train/loss": 1.25, "epoch": 0}, step=9)
    table.log_metrics({"val/uar": 0.75, "epoch": 1}, step=19)
    table.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,step,train/loss,val/uar",
        "0,9,1.25,0.5",
        "1,19,,0.75",
    ]


def test_a_resumed_run_goes_on_in_the_table(tmp_path):
    first = MetricsTable(tmp_path)
    for epoch in range(3):
        first.log_metrics({"val/uar": 0.1 * epoch, "epoch": epoch}, step=epoch)
    first.save()
    second = MetricsTable(tmp_path)
    second.log_metrics({"val/uar": 0.9, "epoch": 2}, step=2)
    second.log_metrics({"val/uar": 1.0, "epoch": 3}, step=3)
    second.save()
    assert [(row["step"], row["val/uar"]) for row in read(tmp_path)] == [
        ("0", "0.0"),
        ("1", "0.1"),
        ("2", "0.9"),
        ("3", "1.0"),
    ]


def test_rows_go_by_step_and_a_later_value_replaces_an_earlier(tmp_path):
    table = MetricsTable(tmp_path)
    for step, value in ((20, 1.0), (3, 2.0), (None, 3.0), (20, 4.0)):
        table.log_metrics({"loss": value}, step=step)
    table.save()
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [
        ("0", "3.0"),
        ("3", "2.0"),
        ("20", "4.0"),
    ]


def test_numbers_keep_all_their_digits(tmp_path):
    values = {"a": 0.1 + 0.2, "b": 1e-300, "c": float("inf")}
    table = MetricsTable(tmp_path)
    table.log_metrics(values, step=1)
    table.save()
    (row,) = read(tmp_path)
    assert {name: float(row[name]) for name in values} == values


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    table = MetricsTable(tmp_path)
    table.log_metrics({"loss": 1.0}, step=1)
    table.save()
    assert not list(tmp_path.iterdir())


def test_a_run_without_metrics_has_no_table(tmp_path):
    table = MetricsTable(tmp_path)
    table.log_hyperparams({"a": 1})
    table.finalize("success")
    assert not list(tmp_path.iterdir())


def test_it_says_where_it_is(tmp_path):
    table = MetricsTable(tmp_path / "demo" / "version_3")
    assert (table.name, table.version) == ("demo", "version_3")
    assert table.save_dir == str(tmp_path / "demo" / "version_3")
