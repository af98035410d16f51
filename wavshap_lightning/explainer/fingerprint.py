"""What identifies a classifier's weights."""

from __future__ import annotations

import hashlib

from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.models.checkpoint import trained_state
from wavshap_lightning.models.classifier import EmotionClassifier


def fingerprint(classifier: EmotionClassifier) -> str:
    """SHA-256 over the backbone's fingerprint, the labels and everything that is trained."""
    parts = [classifier.backbone.fingerprint, *classifier.labels]
    parts += [f"{name} {tensor_sha256(value)}" for name, value in sorted(trained_state(classifier).items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
