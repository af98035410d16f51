"""Whatever goes wrong in the monitor is told once an epoch, and nothing is raised."""

from __future__ import annotations

import pytest

from wavshap_lightning.training.monitoring.error_log import ErrorLog


def test_what_went_wrong_is_told_once_with_its_name_and_never_without_words():
    errors = ErrorLog()
    for _ in range(2):
        with errors.collect("a clip"):
            raise OSError("disk\nfull")
    with errors.collect("another"):
        raise ValueError
    with pytest.warns(UserWarning, match="explanations, epoch 3") as told:
        errors.warn("epoch 3")
    (warning,) = told
    assert str(warning.message) == (
        "explanations, epoch 3: a clip: OSError: disk full; another: ValueError: without a message. "
        "Training goes on"
    )


def test_of_many_the_first_are_told_and_the_others_counted():
    errors = ErrorLog()
    for number in range(8):
        errors.add(f"note {number}")
    with pytest.warns(UserWarning, match=r"note 4; and 3 more\. Training goes on"):
        errors.warn("test")


def test_nothing_is_said_of_nothing_and_an_interruption_is_passed_on(recwarn):
    errors = ErrorLog()
    errors.warn("epoch 0")
    assert not recwarn
    with pytest.raises(KeyboardInterrupt), errors.collect("a clip"):
        raise KeyboardInterrupt
