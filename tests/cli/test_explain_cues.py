"""`explain.py --cues`: files, table, page, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from wavshap_lightning.audio.io import load_audio, save_audio
from wavshap_lightning.audio.voice import CUES, analyze_voice
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.planted.scenes import draw_clip
from wavshap_lightning.planted.voices import draw_speaker

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def voice(tmp_path):
    """`(name, seed) -> path` of a short clip of synthetic speech, cut to half a second."""

    def voice(name, seed):
        generator = np.random.default_rng(seed)
        waveform, _ = draw_clip(draw_speaker(generator, voice="female"), "angry", generator)
        save_audio(tmp_path / f"{name}.wav", waveform[:8_000], sample_rate=16_000)
        return tmp_path / f"{name}.wav"

    return voice


def test_cues_of_a_clip_are_in_its_file_on_the_terminal_and_to_be_heard(
    run_explain, checkpoint, few, out, voice, tmp_path, capsys
):
    clips = [Clip(voice("a", 3), "angry", speaker="x"), Clip(voice("b", 1), "neutral", speaker="x")]
    save_manifest(tmp_path / "clips.csv", clips)
    assert run_explain(checkpoint, tmp_path / "clips.csv", "--cues", *few) == 0
    first, second = (json.loads((out / "clips" / f"{stem}.json").read_bytes())["cues"] for stem in "ab")
    assert [one["cue"] for one in first["cues"]] == [*CUES]
    terms = sum(one["value"] for one in first["cues"]) + first["resynthesis"] + first["remainder"]
    assert terms == pytest.approx(first["score"] - first["reference_score"], abs=1e-4)
    assert (first["reference"], second["reference_kind"]) == ("the neutral clip b", "flat")
    shown = capsys.readouterr().out
    assert all(cue.replace("_", " ") in shown for cue in CUES)
    assert "the neutral clip b" in shown
    assert max(map(len, shown.splitlines()[1:-1])) <= 100
    assert {path.name for path in (out / "sounds").glob("a.*")} >= {f"a.{cue}.wav" for cue in CUES}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cues_reference=flat",), "needs --cues"),
        (("--cues", "--cues_reference=nowhere.wav"), "is no file and none of auto, neutral"),
        (("--cues", "--cues_reference=corpus"), "train it with data.num_voices=64"),
    ],
)
def test_references_that_no_clip_has_are_refused_before_any_work(
    run_explain, checkpoint, clip, capsys, words, message
):
    assert run_explain(checkpoint, clip, *words) == 2
    assert message in capsys.readouterr().err


def test_a_clip_without_cues_is_explained_with_a_warning(run_explain, checkpoint, few, out, clip):
    """Noise has no F0, and alone it is no neutral clip."""
    assert run_explain(checkpoint, clip, "--cues=true", "--cues_reference=neutral", *few) == 0
    found = json.loads(next((out / "clips").glob("*.json")).read_bytes())
    told = " ".join(one["message"] for one in found["diagnostics"])
    assert "No reference voice (cues_reference='neutral')" in told
    assert "no F0" in told


def test_the_mean_voice_of_the_training_serves_as_reference(classifier, voice):
    from wavshap_lightning.explainer.explainer import choose_voice

    path = voice("a", 0)
    measures = analyze_voice(load_audio(path), 16_000).measures
    chosen = choose_voice("auto", Clip(path, "angry"), [], json.loads(json.dumps(asdict(measures))))
    assert (chosen.kind, chosen.voice, chosen.doubt) == ("corpus", measures, "")
