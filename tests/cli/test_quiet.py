"""Only what nobody can act on is left out, and only for as long as asked."""

from __future__ import annotations

import logging
import warnings

import pytest

from wavshap_lightning.cli.quiet import LOGGERS, quiet


@pytest.mark.parametrize("name", LOGGERS)
def test_notes_are_dropped_within_the_block_alone(caplog, name):
    logger = logging.getLogger(name)
    with caplog.at_level("INFO"):
        with quiet():
            logger.info("[rank: 1] Seed set to 0")
            logger.info("W&B is offline: no key")
        logger.info("Seed set to 1")
    assert [record.getMessage() for record in caplog.records] == ["W&B is offline: no key", "Seed set to 1"]


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
