"""`explain.py --corpus`: the same files from any number of processes, however often it was cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.cli import corpus as corpus_command
from wavshap_lightning.cli.clips import ClipExplainer
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.files import load_clip

pytestmark = pytest.mark.usefixtures("surroundings")

REPOSITORY = Path(__file__).parents[2]
LABELS = ("angry", "happy", "sad")
FEW = ("--num_draws", "8", "--stages", "frames,layers", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def straight(corpus, checkpoint, run_explain, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    assert run_explain("corpus", checkpoint, *asked(corpus, out)) == 1
    return out


@pytest.fixture
def quick(run_explain, checkpoint, corpus, tmp_path):
    """`(*arguments) -> exit status`, into `out`."""
    return lambda *arguments: run_explain("corpus", checkpoint, *asked(corpus, tmp_path / "out"), *arguments)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def explained(monkeypatch):
    """The stems of the clips that are explained from here on."""
    stems, explain = [], ClipExplainer.explain

    def noted(work, clip):
        stems.append(clip.path.stem)
        return explain(work, clip)

    monkeypatch.setattr(ClipExplainer, "explain", noted)
    return stems


def asked(corpus, out):
    return ("--corpus", "manifest", "--root", corpus, "--split", "test", "--out", out, *FEW)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_apart(program, *arguments):
    """A fresh process that knows nothing of the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_what_is_written(straight, corpus, classifier, read_csv):
    stems = [f"clip {index}" for index in range(5)]
    expected = {f"clips/{stem}.{suffix}" for stem in stems for suffix in ("json", "npz")}
    expected |= {f"records/{stem}.json" for stem in (*stems, "clip 5")}
    assert files_of(straight).keys() == {*expected, "summary.csv", "emotions.csv", "report.html"}
    rows = read_csv(straight / "summary.csv")
    assert [Path(row["clip"]).stem for row in rows] == [*stems, "clip 5"]
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["failed"]
    assert [row["label"] for row in rows] == [LABELS[index % 3] for index in range(6)]
    assert "cannot be read as audio" in rows[5]["reason"]
    assert {row["seconds"] for row in rows} == {""}
    found = explain(classifier, corpus.parent / "clip 3.wav", stages=("frames", "layers"), num_draws=8)
    saved = load_clip(straight / "clips", "clip 3")
    frames = found.values("frames", "frames").numpy()
    assert saved.arrays["frame_attribution"] == pytest.approx(frames, abs=1e-5)


def test_what_each_emotion_is_heard_from(straight, read_csv):
    rows = read_csv(straight / "emotions.csv")
    saved = [load_clip(straight / "clips", f"clip {index}").numbers for index in range(5)]
    targets = [numbers["target"] for numbers in saved]
    assert {row["target"] for row in rows} == set(targets)
    assert {row["kind"] for row in rows} == {"layers", "places", "thirds"}
    assert [row["part"] for row in rows if row["kind"] == "thirds"][:3] == ["start", "middle", "end"]
    target = max(set(targets), key=targets.count)
    mean = np.mean([numbers["shares"]["speech"] for numbers in saved if numbers["target"] == target])
    (row,) = [row for row in rows if (row["target"], row["part"]) == (target, "speech")]
    assert float(row["share"]) == pytest.approx(mean, rel=1e-5)
    assert int(row["n"]) == int(row["clips"]) == targets.count(target)


@pytest.mark.slow
def test_two_processes_write_what_one_does(straight, corpus, checkpoint, out):
    """Each clip is explained once, by one of them."""
    arguments = (*asked(corpus, out), "--devices", "2", "--strategy", "ddp")
    done = run_apart([str(REPOSITORY / "explain.py")], "corpus", checkpoint, *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        "6 clips: the test clips of manifest (small-official, official)",
        f"5 of 6 clips explained: {out / 'report.html'}",
    ]
    assert done.stderr.count("failed: ") == 1
    assert "Traceback" not in done.stderr
    assert files_of(out) == files_of(straight)


KILLED = """
    import os, pathlib, signal, sys
    from wavshap_lightning.cli.explain import main

    written, replace = [], pathlib.Path.replace

    def killed(draft, path):
        written.append(path)
        if len(written) == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(draft, path)

    pathlib.Path.replace = killed
    main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(straight, corpus, checkpoint, out, quick, explained):
    """Two clips are finished; of the third the arrays lie there, and numbers that were never named."""
    done = run_apart(["-c", textwrap.dedent(KILLED)], "corpus", checkpoint, *asked(corpus, out))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((out / "records").iterdir())) == 2
    assert len(list((out / "clips").glob(".*.unfinished"))) == 1
    finished = {path.stem for path in (out / "records").iterdir()}
    assert quick() == 1
    assert not finished & set(explained)
    assert len(explained) == 4
    assert files_of(out) == files_of(straight)


def test_the_same_command_does_nothing_twice(straight, quick, explained, out, capsys):
    assert quick() == 1
    assert len(explained) == 6
    assert quick() == 1
    assert explained[6:] == ["clip 5"]  # a clip that failed is tried again
    assert "5 of 6 clips are explained already" in capsys.readouterr().out
    assert files_of(out) == files_of(straight)


@pytest.mark.slow
def test_what_is_damaged_is_done_again(straight, quick, explained, out):
    assert quick() == 1
    explained.clear()
    (out / "records" / "clip 1.json").write_text('{"key": ')
    arrays = out / "clips" / "clip 2.npz"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    (out / "clips" / "clip 3.json").unlink()
    assert quick() == 1
    assert sorted(explained) == ["clip 1", "clip 2", "clip 3", "clip 5"]
    assert files_of(out) == files_of(straight)


@pytest.mark.slow
def test_what_was_explained_of_other_content_is_done_again(
    run_explain, checkpoint, other_checkpoint, corpus, tmp_path, out, explained
):
    """Not the name decides, but sound, model, settings and target."""
    moved = tmp_path / "corpus"
    moved.mkdir()
    for path in corpus.parent.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())

    def again(model, *more):
        explained.clear()
        assert run_explain("corpus", model, *asked(moved / "clips.csv", out), "--report=false", *more) == 1
        return len(explained) - 1  # but for the one that fails

    assert again(checkpoint) == 5
    assert again(checkpoint) == 0
    waveform, rate = soundfile.read(moved / "clip 2.wav")
    soundfile.write(moved / "clip 2.wav", waveform[::-1], rate)
    assert again(checkpoint) == 1
    assert again(checkpoint, "--target", "sad") == 5
    assert again(checkpoint, "--seed", "1") == 5
    assert again(other_checkpoint, "--seed", "1") == 5


@pytest.mark.parametrize(("ending", "num_done"), [(signal.SIGINT, 2), (signal.SIGTERM, 3)])
def test_an_interruption_keeps_what_is_finished(straight, quick, out, monkeypatch, capsys, ending, num_done):
    """At once where the terminal sends it, after the clip at hand where the system does."""
    explain, count = ClipExplainer.explain, iter(range(9))

    def interrupted(work, clip):
        if next(count) == 2:
            signal.raise_signal(ending)
        return explain(work, clip)

    monkeypatch.setattr(ClipExplainer, "explain", interrupted)
    assert quick() == 130
    assert f"interrupted: {num_done} of 6 clips are done; the same command resumes" in capsys.readouterr().err
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert not (out / "summary.csv").exists()
    assert quick() == 1
    assert files_of(out) == files_of(straight)


def test_the_longest_clips_come_first(quick, explained):
    assert quick("--report=false") == 1
    assert explained == ["clip 2", "clip 4", "clip 1", "clip 3", "clip 0", "clip 5"]


def test_memory_that_runs_out_halves_the_chunk(straight, quick, out, monkeypatch, read_csv):
    gradients = Problem.gradients

    def greedy(self, positions):
        if len(positions) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return gradients(self, positions)

    monkeypatch.setattr(Problem, "gradients", greedy)
    assert quick("--report=false") == 1
    assert [row["status"] for row in read_csv(out / "summary.csv")] == ["ok"] * 5 + ["failed"]
    found, expected = (load_clip(folder / "clips", "clip 0").arrays for folder in (out, straight))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_clip_that_does_not_fit_is_a_row(quick, out, monkeypatch, read_csv):
    def greedy(self, positions):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Problem, "gradients", greedy)
    assert quick("--report=false") == 2
    rows = read_csv(out / "summary.csv")
    assert all("does not hold a single draw" in row["reason"] for row in rows[:5])


@pytest.mark.slow
def test_a_clip_that_fails_later_leaves_nothing_of_before(quick, out, monkeypatch):
    assert quick("--report=false", "--figures=true") == 1
    assert (out / "clips" / "clip 0.png").is_file()
    monkeypatch.setattr(Problem, "gradients", lambda *_: (_ for _ in ()).throw(RuntimeError("no")))
    assert quick("--report=false", "--seed", "3") == 2
    assert not list((out / "clips").iterdir())


def test_a_page_of_some_clips_says_so_and_sums_up_all(straight, quick, out, monkeypatch):
    monkeypatch.setattr(corpus_command, "MAX_PAGE_CLIPS", 3)
    assert quick() == 1
    page, whole = ((folder / "report.html").read_text() for folder in (out, straight))
    assert "<bdi>clip 2.wav</bdi>" in page
    assert "These are 3 of 6 clips" in page
    assert "These are" not in whole
    start = 'id="summary-plots"'
    summaries = [text[text.index(start) :].split("</script>")[0] for text in (page, whole)]
    assert summaries[0] == summaries[1]


def test_a_page_that_would_be_large_has_fewer_clips(straight, quick, out, monkeypatch):
    monkeypatch.setattr(corpus_command, "MAX_PAGE_BYTES", (straight / "report.html").stat().st_size - 1)
    assert quick() == 1
    assert "These are 5 of 6 clips" in (out / "report.html").read_text()
