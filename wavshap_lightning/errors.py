"""Errors of the package, with one root class.

Every message names the value (`name=value`), what is required, and what to do. Catch
[`WavshapError`][wavshap_lightning.errors.WavshapError] to catch them all.
"""

from __future__ import annotations


class WavshapError(Exception):
    """Base class of the errors that this package raises."""


class AudioError(WavshapError):
    """A recording that cannot be read or used."""


class CorpusError(WavshapError):
    """A corpus, manifest, label map, split or protocol that is missing, malformed or inconsistent."""


class AuditError(CorpusError):
    """A corpus whose audit found something a run must not ignore."""


class ModelError(WavshapError):
    """A backbone or classifier that is missing, of the wrong kind or incomplete."""


class CheckpointError(ModelError):
    """A checkpoint that is corrupt, unsafe or belongs to something else."""


class DivergenceError(ModelError):
    """Training whose loss, weights or logits have overflowed or are not numbers."""


class CacheError(WavshapError):
    """A feature cache that cannot be written, or whose content contradicts the model."""


class AttributionError(WavshapError):
    """A score, input or set of baselines that cannot be explained, or a record that cannot be read."""


class SettingError(WavshapError):
    """An argument whose value cannot be used."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if there is no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
