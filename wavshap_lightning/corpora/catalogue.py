"""The corpora by name: how each is read, labelled, split, licensed and found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path

import numpy as np

from wavshap_lightning.corpora import esd, folders, iemocap, meld, msp_podcast
from wavshap_lightning.corpora import filename_schemes as filenames
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import (
    NO_AGREEMENT,
    OTHER,
    apply_label_map,
    draw_stratified,
    ordered_labels,
    select_labels,
)
from wavshap_lightning.corpora.manifest import load_manifest
from wavshap_lightning.corpora.protocols import (
    ESD_5_FOLDS,
    IEMOCAP_5_SESSIONS,
    RAVDESS_6_FOLDS,
    balanced_speaker_folds,
    default_protocol,
    leave_one_speaker_out,
    official_split,
    two_speaker_folds,
)
from wavshap_lightning.corpora.splits import Protocol
from wavshap_lightning.errors import CorpusError, SettingError


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus that can be asked for by name.

    Args:
        name: What to call it.
        load: Reads the clips below a root; keyword arguments are the options of the corpus.
        licence: Under what terms it may be used.
        homepage: Where to get it.
        protocol: How its clips are split unless one says otherwise.
        label_map: New name of each label of the loader, None to leave its clips out; None as a whole
            keeps the labels as they are.
        expected_clips: How many a complete copy has, after the label map; None where that varies.
    """

    name: str
    load: Callable[..., list[Clip]]
    licence: str
    homepage: str
    protocol: Callable[[Sequence[Clip]], Protocol]
    label_map: Mapping[str, str | None] | None = None
    expected_clips: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes after the label map, in the order of `EMOTIONS`; none where there is no map."""
        return ordered_labels(name for name in (self.label_map or {}).values() if name)


def _always(protocol: Protocol) -> Callable[[Sequence[Clip]], Protocol]:
    return lambda _clips: protocol


def _crema_d_folds(clips: Sequence[Clip]) -> Protocol:
    return balanced_speaker_folds(clips, num_folds=5, seed=0, name="crema-d-5-folds")


def _unchanged(labels: Mapping[str, str]) -> dict[str, str | None]:
    return {label: label for label in labels.values()}


_TABLE = (
    Corpus(
        "ravdess",
        filenames.load_ravdess,
        "CC BY-NC-SA 4.0",
        filenames.RAVDESS.layout.homepage,
        protocol=_always(RAVDESS_6_FOLDS),
        label_map=_unchanged(filenames.RAVDESS.labels),
        expected_clips=1440,
    ),
    Corpus(
        "crema-d",
        filenames.load_crema_d,
        "ODbL 1.0",
        filenames.CREMA_D.layout.homepage,
        protocol=_crema_d_folds,
        label_map=_unchanged(filenames.CREMA_D.labels),
        expected_clips=7440,
    ),
    Corpus(
        "emo-db",
        filenames.load_emo_db,
        "CC0 1.0",
        filenames.EMO_DB.layout.homepage,
        protocol=leave_one_speaker_out,
        label_map=_unchanged(filenames.EMO_DB.labels),
        expected_clips=535,
    ),
    Corpus(
        "tess",
        filenames.load_tess,
        "CC BY-NC-ND 4.0",
        filenames.TESS.layout.homepage,
        protocol=two_speaker_folds,
        label_map=_unchanged(filenames.TESS.labels),
        expected_clips=2800,
    ),
    Corpus(
        "savee",
        filenames.load_savee,
        "research, after registration",
        filenames.SAVEE.layout.homepage,
        protocol=leave_one_speaker_out,
        label_map=_unchanged(filenames.SAVEE.labels),
        expected_clips=480,
    ),
    Corpus(
        "jl-corpus",
        filenames.load_jl_corpus,
        "ODC-BY",
        filenames.JL_CORPUS.layout.homepage,
        protocol=leave_one_speaker_out,
        label_map=_unchanged(filenames.JL_CORPUS.labels),
        expected_clips=2400,
    ),
    Corpus(
        "iemocap",
        iemocap.load_iemocap,
        "research, by form from USC",
        iemocap.LAYOUT.homepage,
        protocol=_always(IEMOCAP_5_SESSIONS),
        label_map=iemocap.FOUR_CLASSES,
        expected_clips=5531,
    ),
    Corpus(
        "meld",
        meld.load_meld,
        "research",
        meld.LAYOUT.homepage,
        protocol=official_split,
        label_map=_unchanged(meld.LABELS),
        expected_clips=13706,
    ),
    Corpus(
        "msp-podcast",
        msp_podcast.load_msp_podcast,
        "research, signed licence",
        msp_podcast.LAYOUT.homepage,
        protocol=official_split,
        label_map=_unchanged(msp_podcast.LABELS) | {OTHER: None, NO_AGREEMENT: None},
    ),
    Corpus(
        "esd",
        esd.load_esd,
        "research",
        esd.LAYOUT.homepage,
        protocol=_always(ESD_5_FOLDS),
        label_map=_unchanged(esd.LABELS),
        expected_clips=35000,
    ),
    Corpus("planted", load_manifest, "made by this package", "this package", protocol=official_split),
    Corpus(
        "planted-in",
        load_manifest,
        "that of the recordings",
        "any of the other corpora",
        protocol=official_split,
    ),
    Corpus("manifest", load_manifest, "yours", "your own recordings", protocol=default_protocol),
    Corpus("folders", folders.load_folders, "yours", "your own recordings", protocol=default_protocol),
    Corpus("flat", folders.load_flat, "yours", "your own recordings", protocol=default_protocol),
)

CORPORA: Mapping[str, Corpus] = {corpus.name: corpus for corpus in _TABLE}
"""Every corpus by its name."""


def load_corpus(
    name: str,
    root: Path | str,
    /,
    *,
    label_map: Mapping[str, str | None] | None = None,
    labels: Sequence[str] | None = None,
    max_samples: int | None = None,
    seed: int = 0,
    **options: object,
) -> list[Clip]:
    """The clips of a named corpus under the labels wanted.

    Args:
        name: One of `CORPORA`.
        root: The folder (or, for a manifest, the file) that holds it.
        label_map: New name of every label of the loader, None to leave its clips out; the corpus's own
            map if None.
        labels: Classes to keep, by their new names; all if None.
        max_samples: At most so many clips, drawn class by class; all if None.
        seed: Decides which, where there are more.
        **options: Options of the corpus's loader, such as `speaker_pattern` or `language`.

    Raises:
        CorpusError: If the name is unknown, or the corpus, the map and the labels do not fit together.
        SettingError: If the corpus has no such option or needs one, an option is no text, `max_samples` is
            too small or `seed` is negative.
    """
    corpus = corpus_named(name)
    _check_options(corpus, options)
    if seed < 0:
        raise SettingError(f"seed={seed} must be at least 0")
    clips = corpus.load(root, **options)
    label_map = corpus.label_map if label_map is None else label_map
    if label_map is not None:
        clips = apply_label_map(clips, label_map)
    if labels is not None:
        clips = select_labels(clips, labels)
    if not clips:
        raise CorpusError(f"corpus={name!r} label_map={label_map}: no clip is left; map a label that occurs")
    if max_samples is not None:
        clips = draw_stratified(clips, max_samples, np.random.default_rng(seed))
    return clips


def corpus_named(name: str) -> Corpus:
    """The corpus of that name; letter case, hyphens and underscores do not matter.

    Raises:
        CorpusError: If there is none.

    >>> corpus_named("CREMA_D").name
    'crema-d'
    """
    by_key = {_key(known): corpus for known, corpus in CORPORA.items()}
    if _key(name) not in by_key:
        raise CorpusError(f"corpus={name!r} must be one of {', '.join(CORPORA)}")
    return by_key[_key(name)]


def _key(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _check_options(corpus: Corpus, options: Mapping[str, object]) -> None:
    parameters = signature(corpus.load).parameters
    known = list(parameters)[1:]
    required = [name for name in known if parameters[name].default is Parameter.empty]
    unknown, missing = sorted(set(options) - set(known)), sorted(set(required) - set(options))
    if unknown or missing:
        raise SettingError(
            f"corpus={corpus.name!r} options={sorted(options)}: unknown={unknown}, missing={missing}; its "
            f"options are {known}"
        )
    for name, value in options.items():
        if not isinstance(value, str) and (value is not None or name in required):
            raise SettingError(
                f"corpus={corpus.name!r}: option {name}={value!r} must be text; put it in quotes"
            )
