"""`explain.py` of models whose outputs are not classes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest
from wavshap_lightning.models.loading import load_classifier

STEM = "a clip _b_"

pytestmark = pytest.mark.usefixtures("surroundings")


def test_every_dimension_is_explained_and_told(run_explain, regressor, few, out, clip, read_csv, capsys):
    """Its value in the table and on the terminal, its sums in the file, its own entry on the page."""
    assert run_explain(regressor, *few, clip, "--report=true") == 0
    numbers = json.loads((out / "clips" / f"{STEM}.json").read_text())
    values = numbers["values"]
    assert list(numbers["by_target"]) == ["arousal", "valence"]
    (row,) = read_csv(out / "summary.csv")
    assert (row["prediction"], row["probability"], row["target"]) == ("", "", "arousal")
    printed = capsys.readouterr().out
    for name, value in values.items():
        assert float(row[f"value/{name}"]) == pytest.approx(value, rel=1e-5)
        assert f"value of {name}" in printed
    page = (out / "report.html").read_text()
    assert "2 explanations" in page
    assert all(f"raises <bdi>{name}</bdi>" in page for name in values)
    assert "redicted" not in printed


def test_labels_have_a_column_each(run_explain, tagger, few, out, clip, read_csv, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    assert run_explain(tagger, *few, clip, tmp_path / "broken.wav") == 1
    row, failed = read_csv(out / "summary.csv")
    chances = {name: row[f"probability/{name}"] for name in ("angry", "laughs", "sad")}
    assert row["probability"] == chances[row["prediction"]] == max(chances.values(), key=float)
    assert failed["status"] == "failed"
    assert {failed[f"probability/{name}"] for name in chances} == {""}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--score", "probability"), "score='probability' does not exist for dimensions"),
        (("--target", "joy"), "dimensions are arousal, valence; use one"),
    ],
    ids=["score", "target"],
)
def test_what_values_lack_is_refused_in_one_line(options, words, run_explain, regressor, few, clip, capsys):
    assert run_explain(regressor, *few, clip, *options) == 2
    told = capsys.readouterr().err.strip()
    assert words in told
    assert "\n" not in told


def test_values_are_listed_in_their_order(run_explain, regressor, clip, capsys):
    assert run_explain("scores", regressor, clip) == 0
    printed = capsys.readouterr().out
    assert printed.index("arousal") < printed.index("valence")


def test_two_regressors_are_compared_and_a_scorecard_is_refused(
    run_explain, regressor, few, out, clip, capsys
):
    assert run_explain("compare", regressor, *few, clip, "--others", regressor) == 0
    (one, other) = json.loads((out / "compare" / f"{STEM}.json").read_text())["models"]
    assert one["values"] == other["values"]
    assert run_explain("scorecard", regressor, clip) == 2
    assert "a scorecard needs classes" in capsys.readouterr().err


def test_a_corpus_is_explained_by_a_regressor(run_explain, regressor, few, out, corpus, read_csv):
    where = ("--corpus", "manifest", "--root", corpus, "--limit", "2", "--accelerator", "cpu")
    assert run_explain("corpus", regressor, *few, *where) == 0
    rows = read_csv(out / "summary.csv")
    assert len(rows) == 2
    assert all(float(row["value/valence"]) for row in rows)
    assert {row["target"] for row in read_csv(out / "emotions.csv")} == {"arousal"}


@pytest.fixture
def annotated(corpus, tmp_path):
    """Two clips; the first has votes and values, the second is unanimous."""
    first, second, *_ = read_manifest(corpus)
    votes = (("sad", 3.0), ("happy", 2.0), ("bored", 1.0))
    first = replace(first, votes=votes, values=(("arousal", 5.5),))
    save_manifest(tmp_path / "votes.jsonl", [first, replace(second, votes=(("sad", 3.0),))])
    return tmp_path / "votes.jsonl"


def test_the_votes_of_a_manifest_are_a_target_and_are_told(
    run_explain, checkpoint, few, out, annotated, capsys
):
    assert run_explain(checkpoint, *few, annotated, "--target", "listeners") == 1
    numbers = json.loads((out / "clips" / "clip 0.json").read_text())
    assert numbers["target"] == "sad-vs-happy"
    assert numbers["votes"] == {"sad": 3, "happy": 2, "bored": 1}
    printed = capsys.readouterr()
    assert "listeners" in printed.out
    assert "sad 3, happy 2, bored 1" in printed.out
    (failed,) = [line for line in printed.err.splitlines() if line.startswith("failed: ")]
    assert failed.endswith(
        "target='listeners' needs votes for two of the classes or more; those of this clip are for sad"
    )


@pytest.mark.parametrize(("target", "names"), [("arousal", ["arousal", "valence"]), ("second", None)])
def test_a_target_chooses_the_task(target, names, run_explain, several_tasks, few, out, annotated):
    assert run_explain(several_tasks, *few, annotated, "--target", target) == 0
    numbers = json.loads((out / "clips" / "clip 0.json").read_text())
    assert numbers["labels"] == (names or ["angry", "happy", "sad"])
    assert numbers.get("scale") == (names and [1, 7])
    assert numbers["annotated_values"] == {"arousal": 5.5}


def test_scores_are_those_of_every_task(run_explain, several_tasks, clip, capsys):
    assert run_explain("scores", several_tasks, clip) == 0
    words = capsys.readouterr().out.replace("|", "").split()
    assert sum(float(word) for word in words[1:6:2]) == pytest.approx(1, abs=0.002)
    assert words[6:10:2] == ["arousal", "valence"]
    with torch.no_grad():
        logits = load_classifier(several_tasks)(torch.from_numpy(load_audio(clip))[None])[0]
    assert [float(word) for word in words[7:10:2]] == pytest.approx(logits[3:].tolist(), abs=0.002)


@pytest.mark.slow
def test_a_clip_whose_votes_have_changed_is_explained_again(run_explain, checkpoint, few, annotated, capsys):
    where = ("--corpus", "manifest", "--root", annotated, "--split", "all", "--accelerator", "cpu")
    assert run_explain("corpus", checkpoint, *few, *where) == 0
    first, second = read_manifest(annotated)
    save_manifest(annotated, [replace(first, votes=(("sad", 4.0),)), second])
    assert run_explain("corpus", checkpoint, *few, *where) == 0
    assert "1 of 2 clips are explained already" in capsys.readouterr().out
