"""The page of an export: what is known, in words that nothing can break, and nothing made up."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.models.record import TrainingProvenance

LABELS = ("angry", "happy", "sad")


@pytest.fixture
def classifier(build_exportable):
    return build_exportable()


def page(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_page_tells_what_is_known(on_tiny, tmp_path):
    front, body = page(on_tiny.export(tmp_path / "mine", licence="cc-by-nc-sa-4.0"))
    assert front["license"] == "cc-by-nc-sa-4.0"
    assert front["labels"] == list(LABELS)
    metrics = {metric["type"]: metric["value"] for metric in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics == {"recall": 0.6123, "accuracy": 0.6, "f1": 0.59}
    for hint in (
        "angry, happy, sad",
        "`tiny`",
        on_tiny.backbone.fingerprint[:16],
        "ravdess-6-folds",
        "fold 3 of 6: 120 clips for training, 60 clips for choosing the epoch, 61 clips for judging",
        "speakers that have not trained: 04, 05",
        "CC BY-NC-SA 4.0",
        "0.612 | 0.550 to 0.660",
        "UAR of 0.333",
        "load_classifier('mine')",
        "torch 2.8",
    ):
        assert hint in body


def test_the_page_does_not_make_up_what_is_not_known(build_exportable, tmp_path):
    front, body = page(build_exportable(TrainingProvenance()).export(tmp_path / "mine"))
    assert "license" not in front
    assert "model-index" not in front
    assert "base_model" not in front
    assert body.count("Not known:") == 2


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"unit": "clip"}, "too high for voices never heard"),
        ({"unit": "split"}, "come with the corpus"),
        ({"shared_validation": True}, "with other texts"),
        ({"corpus": "planted"}, "no person's emotion"),
        ({"corpus": "planted-in-ravdess"}, "The recordings: Corpus: ravdess"),
        ({"corpus": "my corpus"}, "known to those who recorded it"),
        ({"corpus": "manifest"}, "known to those who recorded it"),
    ],
    ids=str,
)
def test_the_page_tells_the_protocol_in_words(changes, hint, build_exportable, tmp_path, exported_provenance):
    _, body = page(
        build_exportable(TrainingProvenance({**exported_provenance.protocol, **changes})).export(
            tmp_path / "mine"
        )
    )
    assert hint in body


def test_names_cannot_break_the_page(build_exportable, tmp_path):
    labels = ("<script>", "a|b", "c\n# d")
    front, body = page(
        build_exportable(TrainingProvenance(), labels).export(tmp_path / "mine", title="<b>`x`")
    )
    assert front["labels"] == list(labels)
    body = re.sub(r"```.*?```|`[^`]*`", "", body, flags=re.DOTALL)  # in code nothing is markup
    assert "<script>" not in body
    assert "<b>" not in body
    assert "\n# d" not in body
    assert "a&#124;b" in body


def test_scores_of_another_test_may_be_given(classifier, tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"uar": 0.5, "loss": float("nan"), "protocol": {}}))
    again = load_classifier(classifier.export(tmp_path / "mine", scores=tmp_path / "test.json"))
    assert again.provenance.scores == {"test": {"uar": 0.5}}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"uar": "high"}'], ids=repr)
def test_what_are_no_scores_is_refused(content, classifier, tmp_path):
    (tmp_path / "test.json").write_text(content)
    with pytest.raises(SettingError, match=r"give the test\.json of a test"):
        classifier.export(tmp_path / "mine", scores=tmp_path / "test.json")
    assert not (tmp_path / "mine").exists()
