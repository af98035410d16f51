"""A fold that is finished is read back as it was."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.cross_validation import FoldResult, read_fold
from wavshap_lightning.training.scores import Predictions


def test_every_number_is_read_back_as_it_was(tmp_path):
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) / 3
    predictions = Predictions(logits, torch.arange(7) % 3, torch.arange(7))
    folder = str(tmp_path / "fold_2")
    FoldResult(2, predictions, tuple("abcabcß"), {"name": "toy", "folds": [1, 2]}, folder).save()
    found = read_fold(tmp_path / "fold_2")
    for name in ("logits", "labels", "positions"):
        assert torch.equal(getattr(found.predictions, name), getattr(predictions, name))
    assert (found.fold, found.speakers, found.folder) == (2, tuple("abcabcß"), folder)
    assert found.protocol == {"name": "toy", "folds": [1, 2]}


def test_a_fold_without_a_result_is_not_finished(tmp_path):
    assert read_fold(tmp_path / "fold_0") is None


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"fold": 0, "protocol": {}, "clips": [{"position": 0}]}']
)
def test_a_result_that_was_changed_is_told(tmp_path, content):
    (tmp_path / "fold.json").write_text(content)
    with pytest.raises(
        SettingError, match=r"fold\.json cannot be read .*delete it, and the fold is run again"
    ):
        read_fold(tmp_path)
