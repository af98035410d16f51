"""Only what nobody can act on is left out, and only for as long as asked."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import WavLMForSequenceClassification
from transformers.utils import logging as transformers_logging

from wavshap_lightning.cli.terminal import LOGGERS, quiet
from wavshap_lightning.models.pretrained import open_pretrained, tiny_config


@pytest.mark.parametrize("name", LOGGERS)
def test_notes_are_dropped_within_the_block_alone(name):
    logger, told = logging.getLogger(name), []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logger.addHandler(handler)
    try:
        with quiet():
            logger.warning("[rank: 1] Seed set to 0")
            logger.warning("W&B is offline: no key")
        logger.warning("Seed set to 1")
    finally:
        logger.removeHandler(handler)
    assert told == ["W&B is offline: no key", "Seed set to 1"]


def test_noise_is_dropped_and_other_warnings_stay():
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
    assert not any(logging.getLogger(name).filters for name in LOGGERS)


@pytest.fixture
def classifier_folder(tmp_path):
    """A model with a task head, of which a backbone takes a part."""
    with torch.random.fork_rng(devices=[]):
        WavLMForSequenceClassification(tiny_config()).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 16000}')
    return tmp_path


def test_a_backbone_opens_without_a_word(classifier_folder, capfd, caplog, monkeypatch):
    monkeypatch.setattr(transformers_logging.get_logger("transformers"), "propagate", True)
    capfd.readouterr()
    with quiet():
        open_pretrained(str(classifier_folder))
    assert (capfd.readouterr(), caplog.text) == (("", ""), "")
    open_pretrained(str(classifier_folder))
    assert "Loading weights" in capfd.readouterr().err


@pytest.fixture
def _bars():
    """Bars are shown or hidden afterwards as they were before."""
    loading, hidden = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    yield
    (transformers_logging.enable_progress_bar if loading else transformers_logging.disable_progress_bar)()
    (disable_progress_bars if hidden else enable_progress_bars)()


@pytest.mark.usefixtures("_bars")
@pytest.mark.parametrize("loading", [True, False])
@pytest.mark.parametrize("downloads", [True, False])
def test_bars_of_downloads_stay_and_all_is_as_before(loading, downloads):
    (transformers_logging.enable_progress_bar if loading else transformers_logging.disable_progress_bar)()
    (enable_progress_bars if downloads else disable_progress_bars)()
    with quiet():
        assert not transformers_logging.is_progress_bar_enabled()
        assert are_progress_bars_disabled() is not downloads
    assert transformers_logging.is_progress_bar_enabled() is loading
    assert are_progress_bars_disabled() is not downloads
