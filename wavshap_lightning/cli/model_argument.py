"""The MODEL of a command line as a classifier."""

from __future__ import annotations

import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.open import open_classifier


def open_model(name: str, device: str) -> EmotionClassifier:
    """The classifier that a name stands for, where it is to compute.

    Raises:
        WavshapError: If it is none, or its weights or its backbone cannot be used.
        SettingError: If the device cannot be used.
    """
    place = _checked(device)
    return open_classifier(name).to(place)


def _checked(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SettingError(f"device={device!r} cannot be used: {reason}") from error
