"""The first example of the documentation runs as it stands, on a clip of PlantedSpeech."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.planted.corpus import PlantedSettings, ensure_planted_speech

PAGE = Path(__file__).parents[2] / "docs" / "index.md"
CHECKPOINT = "runs/demo/version_0/checkpoints/best.ckpt"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a clip and the checkpoint of a classifier with a random head."""
    settings = PlantedSettings(num_speakers=3, clips_per_speaker_and_label=1, labels=("happy", "sad"))
    clip = ensure_planted_speech(tmp_path / "corpus", settings)[0]
    shutil.copy(clip.path, tmp_path / "clip.flac")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = EmotionClassifier(SpeechBackbone("tiny"), settings.labels)
    record = classifier.record.to_dict()
    state = {f"classifier.{name}": value for name, value in trained_state(classifier).items()}
    (tmp_path / CHECKPOINT).parent.mkdir(parents=True)
    torch.save({"wavshap_classifier": record, "state_dict": state}, tmp_path / CHECKPOINT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_example_of_the_documentation(workplace, capsys):
    example = dedent(re.search(r" *```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1])
    exec(compile(example, PAGE.name, "exec"), {})  # noqa: S102 - our own words
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith(("happy {", "sad {"))
    assert Explanation.load(workplace / "clip.safetensors").clip == "clip.flac"


def test_a_checkpoint_by_its_path(workplace):
    found = explain(CHECKPOINT, "clip.flac", target="sad", stages=["layers"], num_draws=4)
    assert found.targets == ("sad",)
