"""Third-party notes are hidden only while a command runs; errors of the user's end with a status."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import WavLMForSequenceClassification
from transformers.utils import logging as transformers_logging

from wavshap_lightning.cli.terminal import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    LEVELS,
    exit_status,
    on_one_line,
    quiet,
)
from wavshap_lightning.errors import AudioError, AuditError, SettingError
from wavshap_lightning.models.pretrained import open_pretrained, tiny_config


class Unreadable(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise AudioError("path=a.wav cannot be read")


@pytest.mark.parametrize("name", LEVELS)
def test_notes_are_hidden_within_the_block_alone(name):
    before = logging.getLogger(name).level
    with quiet():
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger(name).isEnabledFor(logging.ERROR)
    assert logging.getLogger(name).level == before


def test_noise_is_hidden_and_other_warnings_stay():
    noise = "The 'train_dataloader' does not have many workers which may be a bottleneck. Consider ..."
    with quiet():
        warnings.warn(noise, stacklevel=1)
        with pytest.warns(UserWarning, match="the audit of the clips found"):
            warnings.warn("the audit of the clips found: two", stacklevel=1)


def test_warnings_come_without_code_within_the_block_alone():
    before = warnings.formatwarning
    with quiet():
        shown = warnings.formatwarning("the audit found: two", UserWarning, "a/file.py", 7)
    assert shown == "UserWarning: the audit found: two\n"
    assert warnings.formatwarning is before


def test_an_error_goes_through_and_everything_is_as_before():
    before = warnings.formatwarning, list(warnings.filters)
    with pytest.raises(ValueError, match="mine"), quiet():
        raise ValueError("mine")
    assert (warnings.formatwarning, list(warnings.filters)) == before


def test_a_backbone_opens_without_a_word(tmp_path, capfd, caplog, monkeypatch):
    """A model with a task head, of which a backbone takes a part."""
    with torch.random.fork_rng(devices=[]):
        WavLMForSequenceClassification(tiny_config()).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 16000}')
    monkeypatch.setattr(transformers_logging.get_logger("transformers"), "propagate", True)
    capfd.readouterr()
    with quiet():
        open_pretrained(str(tmp_path))
    assert (capfd.readouterr(), caplog.text) == (("", ""), "")


@pytest.mark.parametrize(
    ("error", "code"), [(SettingError("x=1 must be 2"), EXIT_USAGE), (KeyboardInterrupt(), EXIT_INTERRUPTED)]
)
def test_an_error_of_the_users_is_a_status_and_no_traceback(error, code, capsys):
    with pytest.raises(SystemExit) as ending, exit_status():
        raise error
    assert ending.value.code == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [OSError(28, "No space"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_lack_of_disk_or_memory_is_a_line_and_a_bug_is_none(error, capsys):
    with pytest.raises(SystemExit) as ending, exit_status():
        raise error
    assert ending.value.code == EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(type(error).__name__)
    for bug in (RuntimeError("a\nbug"), TypeError("bug"), KeyError("bug")):
        with pytest.raises(type(bug)), exit_status():
            raise bug


def test_an_error_of_a_worker_is_told_without_its_traceback(capsys):
    loader = DataLoader(Unreadable(), batch_size=None, num_workers=1)
    with pytest.raises(SystemExit), exit_status():
        next(iter(loader))
    assert capsys.readouterr().err == "AudioError: path=a.wav cannot be read\n"


def test_tables_of_ours_keep_their_lines_and_messages_of_others_are_one(capsys):
    for error in (AuditError("errors=2\n\n  a.wav\n  b.wav"), OSError("no space\n  left")):
        with pytest.raises(SystemExit), exit_status():
            raise error
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["AuditError: errors=2", "", "  a.wav", "  b.wav", "OSError: no space left"]


def test_a_name_stays_on_one_line():
    assert on_one_line("two\nlines \udcff") == "two\\nlines \\udcff"
