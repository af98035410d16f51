"""A small corpus to damage, the command that audits it, and a search for damage that breaks a law."""

from __future__ import annotations

import io
import json
import os
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import product
from random import Random
from unicodedata import category, normalize

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.corpora.catalogue import load_corpus
from wavshap_lightning.corpora.clip import Clip

LABELS, SPEAKERS, TAKES = ("angry", "fröhlich", "sad"), ("ann", "Bob", "Jörg", "Zoë"), (0, 1)
NUM_SAMPLES = 1_600

FEW_OR_MANY = [pytest.param(0.02, id="few"), pytest.param(1.0, id="many", marks=pytest.mark.slow)]


@pytest.fixture(params=FEW_OR_MANY)
def search(request):
    """`(law, num_examples, **strategies)`: call the law with drawn arguments; 2% as often unless slow.

    Every run draws the same; with FUZZ_TIMES=10 in the environment, ten times as many, and others each time.
    """
    times = int(os.environ.get("FUZZ_TIMES", "0"))

    def search(law, num_examples, **strategies):
        limits = settings(
            max_examples=max(1, round(num_examples * request.param * (times or 1))),
            derandomize=not times,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        limits(given(**strategies)(law))()

    return search


@pytest.fixture(scope="session")
def damages():
    """`(kinds) -> strategy` of up to three changes `(subject, draw) -> subject`, chosen by name and seed."""

    def damages(kinds):
        named = st.tuples(st.sampled_from(list(kinds)), st.integers(0, 9_999))
        return st.lists(named, max_size=3, unique_by=lambda one: one[0])

    return damages


@pytest.fixture(scope="session")
def damaged():
    """`(subject, kinds, chosen) -> subject` after the chosen changes."""

    def damaged(subject, kinds, chosen):
        for name, seed in chosen:
            subject = kinds[name](subject, Random(seed))  # noqa: S311 - repeatable
        return subject

    return damaged


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """24 clips of 0.1 s in one folder, three classes and four speakers, some of whose names are not ASCII."""
    folder, generator = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    clips = []
    for speaker, label, take in product(SPEAKERS, LABELS, TAKES):
        path = folder / f"{speaker}_{label}_{take}.wav"
        save_audio(path, 0.1 * generator.uniform(-1.0, 1.0, NUM_SAMPLES))
        clips.append(Clip(path, label, speaker))
    return clips


@pytest.fixture(scope="session")
def plain():
    """`(text) -> text`: composed, in words with one space between them, without signs that cannot be seen."""

    def plain(text):
        seen = (one for one in normalize("NFC", text) if one.isspace() or category(one) not in {"Cf", "Cc"})
        return " ".join("".join(seen).split())

    return plain


@dataclass(frozen=True)
class Outcome:
    """How an audit ended.

    Args:
        status: Exit status.
        said: Everything that was printed.
        counts: Numbers of clips, classes and speakers; None if the corpus could not be loaded.
    """

    status: int
    said: str
    counts: tuple[int, int, int] | None


@pytest.fixture
def run_audit(tmp_path, monkeypatch):
    """`(*words) -> Outcome` of `train.py audit`; an error that is not ours is raised."""
    from wavshap_lightning.cli.train import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("WAVSHAP_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "audit.json"

    def run_audit(*words):
        out.unlink(missing_ok=True)
        streams = [
            io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace")
        ]
        status = 0
        with redirect_stdout(streams[0]), redirect_stderr(streams[1]), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.simplefilter("error", RuntimeWarning)
            try:
                main(["audit", "--out", str(out), *map(str, words)])
            except SystemExit as ending:
                status = ending.code or 0
        said = "".join(stream.seek(0) or stream.read() for stream in streams)
        assert status in {0, 2}
        assert "Traceback" not in said
        if not out.exists():
            return Outcome(status, said, None)
        found = json.loads(out.read_text(encoding="utf-8"))["summary"]["all"]
        return Outcome(
            status, said, (found["number"]["clips"], len(found["label"]), found["number"]["speakers"])
        )

    return run_audit


@pytest.fixture
def audit(run_audit, plain):
    """`(corpus, root, **options) -> Outcome`; names that differ in case or width alone are told."""

    def audit(corpus, root, **options):
        words = ("--data.corpus", corpus, "--data.root", root, "--data.options", json.dumps(options))
        outcome = run_audit(*words)
        if outcome.counts is not None:
            assert outcome.status == 2 or outcome.counts[1] > 1, outcome
            with warnings.catch_warnings(action="ignore"):
                clips = load_corpus(corpus, root, **options)
            for names in ({clip.label for clip in clips}, {clip.speaker for clip in clips}):
                assert all(name == plain(name) for name in names), names
                assert_lookalikes_are_told(names, outcome.said)
        return outcome

    return audit


def assert_lookalikes_are_told(names, said):
    forms = {}
    for name in sorted(names):
        other = forms.setdefault(normalize("NFKC", name).casefold(), name)
        assert other == name or (other in said and name in said), (other, name, said)
