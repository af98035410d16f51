"""The page of an export: what is known, in words that nothing can break, and nothing made up."""

from __future__ import annotations

import re

import pytest
import yaml

from wavshap_lightning.models.head import Outputs
from wavshap_lightning.models.record import TrainingProvenance

LABELS = ("angry", "happy", "sad")


@pytest.fixture
def classifier(build_exportable):
    return build_exportable()


def page(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_page_tells_what_is_known(on_tiny, tmp_path, export):
    front, body = page(export(on_tiny, tmp_path / "mine", license="cc-by-nc-sa-4.0"))
    assert front["license"] == "cc-by-nc-sa-4.0"
    assert front["labels"] == list(LABELS)
    metrics = {metric["type"]: metric["value"] for metric in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics == {"recall": 0.6123, "accuracy": 0.6, "f1": 0.59}
    for hint in (
        "angry, happy, sad",
        "`tiny`",
        on_tiny.backbone.fingerprint[:16],
        "ravdess-6-folds",
        "fold 3 of 6, 120 clips for training, 60 clips for choosing the epoch, 61 clips for testing",
        "Test speakers, none of whom is in the training set: 04, 05",
        "CC BY-NC-SA 4.0",
        "0.612 | 0.550 to 0.660",
        "UAR of 0.333",
        "load_classifier('mine')",
        "torch 2.8",
    ):
        assert hint in body


def test_the_page_does_not_make_up_what_is_not_known(build_exportable, tmp_path, export):
    front, body = page(export(build_exportable(TrainingProvenance()), tmp_path / "mine"))
    assert "license" not in front
    assert "model-index" not in front
    assert "base_model" not in front
    assert body.count("Unknown:") == 2


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"unit": "clip"}, "too high for new speakers"),
        ({"unit": "split"}, "published with the corpus"),
        ({"shared_validation": True}, "with other sentences"),
        ({"corpus": "planted"}, "no person's emotion"),
        ({"corpus": "planted-in-ravdess"}, "labels of the recordings were not used.\n\nCorpus: ravdess"),
        ({"corpus": "my corpus"}, "Ask those who recorded it"),
        ({"corpus": "manifest"}, "Ask those who recorded it"),
    ],
    ids=str,
)
def test_the_page_tells_the_protocol_in_words(
    changes, hint, build_exportable, tmp_path, exported_provenance, export
):
    provenance = TrainingProvenance({**exported_provenance.protocol, **changes})
    _, body = page(export(build_exportable(provenance), tmp_path / "mine"))
    assert hint in body


def test_names_cannot_break_the_page(build_exportable, tmp_path, export):
    labels = ("<script>", "a|b", "c\n# d")
    classifier = build_exportable(TrainingProvenance(), labels)
    front, body = page(export(classifier, tmp_path / "mine", title="<b>`x`"))
    assert front["labels"] == list(labels)
    body = re.sub(r"```.*?```|`[^`]*`", "", body, flags=re.DOTALL)  # in code nothing is markup
    assert "<script>" not in body
    assert "<b>" not in body
    assert "\n# d" not in body
    assert "a&#124;b" in body


def test_the_page_of_values_tells_their_scale_and_agreement(build_exportable, tmp_path, export):
    scores = {"test": {"ccc": 0.71, "ccc_low": 0.6, "ccc_high": 0.8}}
    outputs = [Outputs("dimensions", ("arousal", "valence"), (1.0, 7.0))]
    _, body = page(export(build_exportable(TrainingProvenance(scores=scores), outputs), tmp_path / "mine"))
    assert "| dimensions | arousal, valence, each from 1 to 7 |" in body
    assert "| CCC (concordance, averaged over dimensions) | 0.710 | 0.600 to 0.800 |" in body
    assert "Chance" not in body
