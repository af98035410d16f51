"""Studies from the command line: resumed, in shards and in processes with the same numbers; refused early."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavshap_lightning.cli.terminal import EXIT_USAGE
from wavshap_lightning.cli.train import main

pytestmark = pytest.mark.usefixtures("surroundings")

STUDY = {
    "name": "small",
    "corpora": [
        {
            "corpus": "planted",
            "protocol": "leave-one-speaker-out",
            "options": {"num_speakers": 3, "clips_per_speaker_and_label": 2, "labels": ["neutral", "happy"]},
        }
    ],
    "backbones": [{"name": "tiny"}],
    "layers": [0, "learned"],
    "learning_rates": [0.002, 0.01],
    "seeds": 2,
    "max_epochs": 2,
    "batch_size": 4,
    "out": "out",
}
FILES = ("study.json", "study.html", "table.csv", "plan.json")
NUM_CELLS = 2 * 2 * 3


@pytest.fixture
def write_study():
    def write_study(**changes):
        Path("study.yaml").write_text(json.dumps({**STUDY, **changes}))
        return ["bench", "study.yaml", "--workers", "1"]

    return write_study


def cells():
    return {path.name: path.stat().st_mtime_ns for path in Path("out/cells").glob("*.safetensors")}


def contents():
    return [Path("out", name).read_bytes() for name in FILES]


def test_a_study_that_was_cut_off_goes_on_and_gives_the_same_bytes(write_study):
    words = write_study()
    main(words)
    whole, kept = contents(), cells()
    assert len(kept) == NUM_CELLS
    study = json.loads(whole[0])
    assert [one["name"] for one in study["systems"]] == ["tiny"]
    assert {one["fold"] for one in study["systems"][0]["chosen"]} == {0, 1, 2}
    assert [one["layer"] for one in study["layers"]] == [0, "learned"]
    for name in [*kept][::2]:
        Path("out/cells", name).unlink()
    Path("out/study.json").unlink()
    main(words)
    assert contents() == whole
    assert {name: cells()[name] for name in [*kept][1::2]} == {name: kept[name] for name in [*kept][1::2]}


def test_shards_are_merged_into_the_same_study(write_study, run_main, capsys):
    words = write_study()
    main([*words, "--shard", "2/2"])
    assert len(cells()) == NUM_CELLS / 2
    run_main([*words, "--report"], code=EXIT_USAGE)
    assert "6 of 12 cells are not finished" in " ".join(capsys.readouterr().err.split())
    main([*words, "--shard", "1/2"])
    main([*words, "--report"])
    merged = contents()
    for path in Path("out/cells").iterdir():
        path.unlink()
    main(words)
    assert contents() == merged


def test_stress_tests_and_explanations_in_its_folder_are_on_the_page(write_study, study, run_main, capsys):
    words = [*write_study(seeds=1, max_epochs=1), "--report"]
    main(words[:-1])
    limits = json.loads(Path("out/study.json").read_text())["limits"]
    assert any("train.py stress" in one for one in limits)
    for name in ("stress", "explanations"):
        Path("out", name).mkdir()
    Path("out/stress/stress.json").write_text(json.dumps(study["stress"]))
    shares = (
        "happy,9,bands,0-0.5,0.4,0.3,0.5,9",
        "happy,9,bands,0.5-1,0.6,0.5,0.7,9",
        "sad,1,places,edges,1,,,1",
    )
    table = "\n".join(("target,clips,kind,part,share,low,high,n", *shares))
    Path("out/explanations/emotions.csv").write_text(table)
    main(words)
    found = json.loads(Path("out/study.json").read_text())
    assert found["stress"] == study["stress"]
    assert [(one["target"], one["part"], one["low"]) for one in found["attributions"]] == [
        ("happy", "0.5-1", 0.5),
        ("sad", "edges", None),
    ]
    assert not any("train.py stress" in one for one in found["limits"])
    assert all(f'id="{name}"' in Path("out/study.html").read_text() for name in ("stress", "attributions"))
    for name, text in (
        ("explanations/emotions.csv", "a,b\n1,2"),
        ("explanations/emotions.csv", ""),
        ("explanations/emotions.csv", "target,clips,kind,part,share,low,high,n\nsad,1,places,edges,,,,1"),
        ("stress/stress.json", '{"run":'),
        ("stress/stress.json", '{"run": "x"}'),
        ("stress/stress.json", "[1]"),
    ):
        kept = Path("out", name).read_text()
        Path("out", name).write_text(text)
        run_main(words, code=EXIT_USAGE)
        told = " ".join(capsys.readouterr().err.split())
        assert f"path=out/{name} cannot be read" in told
        assert "Traceback" not in told
        Path("out", name).write_text(kept)


@pytest.mark.slow
def test_processes_give_the_same_study(write_study):
    words = write_study()
    main(words)
    alone = contents()
    for path in Path("out/cells").iterdir():
        path.unlink()
    main([*words[:-1], "2"])
    assert contents() == alone


WRONG = [
    ({"layer": [0]}, "layer"),
    ({"corpora": [{"corpus": "planted", "rooot": "x"}]}, "keys=['rooot'] must be of"),
    ({"backbones": [{"name": "absent/backbone"}]}, "absent/backbone"),
    ({"layers": [0, 99]}, "layer=99 must lie between 0 and"),
    ({"corpora": [{"corpus": "ravdess", "root": "nowhere"}]}, "nowhere"),
    (
        {"corpora": [{**STUDY["corpora"][0], "protocol": "balanced-speakers"}]},
        "num_folds=5 must be at least 3",
    ),
    ({"seeds": 0}, "seeds=0 must be at least 1"),
    ({"learning_rates": []}, "learning_rates=[] must have one entry or more"),
    ({"poolings": ["attentive"]}, "attentive"),
    ({"across": [{"train": ["planted"], "test": "crema-d"}]}, "lack ['crema-d']"),
    ({"backbones": [{"name": "tiny", "lora_rank": 2}]}, "a study trains heads alone"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_what_cannot_run_is_told_before_anything_is_run(changes, words, write_study, run_main, capsys):
    run_main(write_study(**changes), code=EXIT_USAGE)
    told = capsys.readouterr().err
    assert words in " ".join(told.split())
    assert "Traceback" not in told
    assert not Path("out/cells").exists()


def test_layers_are_scored_with_poolings_of_statistics_alone(flags, run_main, capsys):
    run_main(flags("layers"), code=EXIT_USAGE)  # the demo pools with attention
    assert "poolings=['attentive'] need all frames" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["0/2", "3/2", "half"])
def test_a_wrong_shard_is_refused(shard, write_study, run_main, capsys):
    run_main([*write_study(), "--shard", shard], code=EXIT_USAGE)
    assert "must be I/N" in capsys.readouterr().err


def test_a_report_needs_the_study_it_reports(write_study, run_main, capsys):
    run_main([*write_study(), "--report"], code=EXIT_USAGE)
    assert "has no plan.json; run the study" in " ".join(capsys.readouterr().err.split())


def test_layers_are_scored_over_all_folds(flags, read_csv):
    words = flags("layers", "--data.protocol", "leave-one-speaker-out", "--out", "out", "--seeds", "2")
    main([*words, "--workers", "1", "--model.head.pooling", "mean_std"])
    rows = read_csv(Path("out/layers.csv"))
    assert [row["layer"] for row in rows][-1] == "learned"
    assert [row["layer"] for row in rows][:-1] == [str(at) for at in range(len(rows) - 1)]
    assert all(float(row["low"]) <= float(row["uar"]) <= float(row["high"]) for row in rows)
    assert (
        json.loads(Path("out/layers.json").read_text())["protocol"]["name"] == "planted-leave-one-speaker-out"
    )
    assert Path("out/layers.png").read_bytes().startswith(b"\x89PNG")
