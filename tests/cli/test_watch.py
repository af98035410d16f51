"""The demo's explanations, read back from the files of W&B and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavshap_lightning.cli.train import main

pytestmark = pytest.mark.usefixtures("surroundings")

BLOCK, HEADER, FILE_HEADER = 32_768, 7, 7
WHOLE, LAST = 1, 4


def read_records(path):
    """The records of a `.wandb` file: a LevelDB log, in blocks, its pieces put together."""
    data, place, held = path.read_bytes(), FILE_HEADER, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        held += data[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (WHOLE, LAST):
            yield held
            held = b""


def read_history(run):
    """What was logged, step by step."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = run.glob("wandb/offline-run-*/run-*.wandb")
    steps = []
    for content in read_records(path):
        record = Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            steps.append({name: json.loads(value) for name, value in items.items()})
    return steps


@pytest.fixture
def watched_run(flags):
    """The demo, small, watched after both epochs and the test."""
    settings = {"every_n_epochs": 1, "num_hardest": 0, "num_wrong": 0, "num_draws": 8}
    given = [word for name, value in settings.items() for word in (f"--trainer.callbacks.{name}", value)]
    main(flags("fit", "--run.tensorboard", "true", *given, wandb="offline", watched=True))
    return Path("runs/demo/version_0")


def test_the_demo_logs_figures_sounds_table_and_curves(watched_run, read_csv):
    run = watched_run
    probes = [probe["name"] for probe in json.loads((run / "probes.json").read_text())["validation"]]
    check_wandb(run, probes)
    check_tensorboard(run, probes)
    for moment in ("epoch_000", "epoch_001", "epochs"):
        drawn = {path.stem for path in (run / "figures" / moment).iterdir()}
        assert {name for name in drawn if not name.endswith("_predicted")} == set(probes)
    assert {path.stem for path in (run / "sounds").iterdir()} > set(probes)
    rows = read_csv(run / "metrics.csv")
    assert all(float(row["explain/share/speech"]) <= 1 for row in rows if row["explain/share/speech"])
    assert float(rows[-1]["explain_test/intraclass_correlation"]) <= 1
    scopes = {(row["part"], row["scope"]) for row in read_csv(run / "explanations.csv")}
    assert scopes == {
        (part, scope) for part in ("validation", "test") for scope in ("clip", "class", "epoch")
    }


def check_wandb(run, probes):
    history, media = read_history(run), next(run.glob("wandb/offline-run-*/files"))
    assert len([step for step in history if "explain/intraclass_correlation" in step]) == 2

    def logged(key):
        return [step[key] for step in history if key in step]

    tables = logged("explain_clips/path")
    assert len(tables) == 2
    for path in tables:
        table = json.loads((media / path).read_text())
        assert {row[table["columns"].index("clip")] for row in table["data"]} == set(probes)
    for name in probes:
        figures = logged(f"explain_figures/{name}/filenames")
        assert len(figures) == 2
        assert logged(f"explain_figures/{name}/width") == [1100, 1100]
        assert all((media / path).read_bytes().startswith(b"\x89PNG") for (path,) in figures)
        assert len(logged(f"explain_figures_epochs/{name}/filenames")) == 1
        ((sound,),) = logged(f"explain_sounds/{name}/audio")
        assert (media / sound["path"]).read_bytes().startswith(b"RIFF")


def check_tensorboard(run, probes):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"images": 0, "audio": 0, "scalars": 0})
    events.Reload()
    for name in probes:
        assert [image.step for image in events.Images(f"explain_figures/{name}")] == [0, 1]
        assert len(events.Audio(f"explain_sounds/{name}")) == 1
    curve = [scalar.step for scalar in events.Scalars("explain/intraclass_correlation")]
    assert curve == [0, 1]
