"""The corpora by name: loader, labels, default split, license and source of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from wavshap_lightning.corpora import esd, folders, iemocap, meld, msp_podcast, protocols
from wavshap_lightning.corpora import filename_schemes as schemes
from wavshap_lightning.corpora.clip import Clip, Scale
from wavshap_lightning.corpora.filename_schemes import FilenameScheme
from wavshap_lightning.corpora.folders import Layout
from wavshap_lightning.corpora.imports import FORMATS, load_format
from wavshap_lightning.corpora.labels import (
    NO_AGREEMENT,
    NoAgreement,
    agreed_label_map,
    apply_label_map,
    draw_stratified,
    emotions_among,
    ordered_labels,
    select_labels,
)
from wavshap_lightning.corpora.manifest import DIMENSIONS, find_file, load_manifest
from wavshap_lightning.corpora.protocols import ESD_5_FOLDS, IEMOCAP_5_SESSIONS, RAVDESS_6_FOLDS, Protocol
from wavshap_lightning.errors import CorpusError, SettingError

BuildProtocol = Callable[[Sequence[Clip]], Protocol]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus, known by its name.

    Args:
        layout: Name, expected files and homepage.
        load: Function that reads the clips below a root; its keyword arguments are the options of the corpus.
        licence: Terms of use.
        protocol: Function that builds the default protocol for the clips.
        label_map: New name of each label of the loader, None to leave its clips out; None as a whole
            keeps the labels as they are.
        expected_clips: Clips of a complete copy, after the label map; None where that varies.
        scales: Lowest and highest value of each emotional dimension of its clips.
    """

    layout: Layout
    load: Callable[..., list[Clip]]
    licence: str
    protocol: BuildProtocol
    label_map: Mapping[str, str | None] | None = None
    expected_clips: int | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in options and tables."""
        return self.layout.corpus

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes after the label map, in the order of `EMOTIONS`; none where there is no map."""
        return ordered_labels(name for name in (self.label_map or {}).values() if name)


def _by_name(
    scheme: FilenameScheme, licence: str, protocol: BuildProtocol, num_clips: int, **scales: Scale
) -> Corpus:
    classes = emotions_among(scheme.labels)
    return Corpus(scheme.layout, scheme.load, licence, protocol, classes, num_clips, scales)


def _by_manifest(name: str, licence: str, protocol: BuildProtocol, **scales: Scale) -> Corpus:
    return Corpus(Layout(name, "manifest.csv", homepage=""), load_manifest, licence, protocol, scales=scales)


def _crema_d_folds(clips: Sequence[Clip]) -> Protocol:
    return replace(protocols.balanced_speaker_folds(clips), name="crema-d-5-folds")


_TABLE = (
    _by_name(schemes.RAVDESS, "CC BY-NC-SA 4.0", lambda _clips: RAVDESS_6_FOLDS, 1440, intensity=(1.0, 2.0)),
    replace(_by_name(schemes.CREMA_D, "ODbL 1.0", _crema_d_folds, 7440), load=schemes.load_crema_d),
    _by_name(schemes.EMO_DB, "CC0 1.0", protocols.leave_one_speaker_out, 535),
    _by_name(schemes.TESS, "CC BY-NC-ND 4.0", protocols.two_speaker_folds, 2800),
    _by_name(schemes.SAVEE, "research, after registration", protocols.leave_one_speaker_out, 480),
    _by_name(schemes.JL_CORPUS, "ODC-BY", protocols.leave_one_speaker_out, 2400),
    Corpus(
        iemocap.LAYOUT,
        iemocap.load_iemocap,
        "research, by form from USC",
        lambda _clips: IEMOCAP_5_SESSIONS,
        iemocap.FOUR_CLASSES,
        5531,
        dict.fromkeys(DIMENSIONS, (1.0, 5.0)),
    ),
    Corpus(
        meld.LAYOUT, meld.load_meld, "research", protocols.official_split, emotions_among(meld.LABELS), 13706
    ),
    Corpus(
        msp_podcast.LAYOUT,
        msp_podcast.load_msp_podcast,
        "research, signed license",
        protocols.official_split,
        emotions_among(msp_podcast.LABELS),
        scales=dict.fromkeys(DIMENSIONS, (1.0, 7.0)),
    ),
    replace(_by_name(esd.SCHEME, "research", lambda _clips: ESD_5_FOLDS, 35000), load=esd.load_esd),
    # What the ring `planted` writes has a manifest.
    _by_manifest("planted", "made by this package", protocols.official_split, arousal=(1.0, 7.0)),
    _by_manifest("planted-in", "that of the recordings", protocols.official_split),
    _by_manifest("manifest", "yours", protocols.default_protocol),
    Corpus(folders.FOLDERS, folders.load_folders, "yours", protocols.default_protocol),
    Corpus(folders.FLAT, folders.load_flat, "yours", protocols.default_protocol),
    *(
        Corpus(layout, partial(load_format, name), "yours", protocols.default_protocol)
        for name, (layout, *_) in FORMATS.items()
    ),
)

CORPORA: Mapping[str, Corpus] = {corpus.name: corpus for corpus in _TABLE}
"""Every corpus by its name."""


def load_corpus(
    name: str,
    root: Path | str,
    /,
    *,
    label_map: Mapping[Any, str | int | None] | None = None,
    labels: Sequence[str | int] | None = None,
    must_occur: bool = True,
    no_agreement: NoAgreement = "drop",
    max_samples: int | None = None,
    seed: int = 0,
    **options: object,
) -> list[Clip]:
    """Load the clips of a corpus with the chosen labels.

    Args:
        name: Name of the corpus, one of `CORPORA`.
        root: Folder of the corpus, or path of the manifest.
        label_map: New name for every label of the corpus, or None to leave its clips out; the corpus's own
            map if None.
        labels: Classes to keep, by their new names; all if None.
        must_occur: Whether each of these classes needs a clip.
        no_agreement: What becomes of clips without agreement of their annotators: `drop`, `soft` (kept with
            their votes, without a class) or `other` (kept in the class "other"); see `agreed_label_map`.
        max_samples: Maximum number of clips, drawn class by class; all if None.
        seed: Random seed of that draw.
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
    clips = corpus.load(find_file(Path(root).expanduser(), {}) or root, **options)
    label_map = corpus.label_map if label_map is None else label_map
    found = {clip.label for clip in clips}
    if label_map is not None or NO_AGREEMENT in found:
        clips = apply_label_map(clips, agreed_label_map(label_map, found, no_agreement))
    if labels is not None:
        besides = [NO_AGREEMENT] if no_agreement == "soft" else []
        clips = select_labels(clips, labels, must_occur=must_occur, besides=besides)
    if not clips:
        chosen = f"label_map={label_map} labels={labels}"
        raise CorpusError(f"corpus={name!r} {chosen}: no clip is left; choose labels that occur")
    if max_samples is not None:
        clips = draw_stratified(clips, max_samples, np.random.default_rng(seed))
    return clips


MEN = {"savee": ".+", "ravdess": r"\d[13579]", "emo-db": "03|1[0125]", "tess": "(?!)"}
MEN |= {"jl-corpus": "male.", "iemocap": ".+M"}
"""Names of the men, of corpora whose other speakers are women."""


def groups_of(clip: Clip) -> dict[str, str]:
    """Groups that a clip belongs to: `speaker`, `gender`, `corpus` and `language`; empty where unknown.

    >>> groups_of(Clip(Path("03-01-05-01-02-01-12.wav"), "angry", "12", "ravdess"))["gender"]
    'female'
    """
    men, scheme = MEN.get(clip.corpus), schemes.SCHEMES.get(clip.corpus)
    gender = "" if men is None else "male" if re.fullmatch(men, clip.speaker) else "female"
    language = (scheme.language or "English") if scheme else ""
    if clip.corpus == "esd":
        language = "Mandarin" if int(clip.speaker) in esd.SPEAKERS["mandarin"] else "English"
    return {"speaker": clip.speaker, "gender": gender, "corpus": clip.corpus, "language": language}


def corpus_named(name: str) -> Corpus:
    """Look up a corpus by name; letter case, hyphens and underscores do not matter.

    Raises:
        CorpusError: If there is none.

    >>> corpus_named("CREMA_D").name
    'crema-d'
    """

    def key(text: str) -> str:
        return re.sub(r"[\W_]", "", text.lower())

    by_key = {key(known): corpus for known, corpus in CORPORA.items()}
    if key(name) not in by_key:
        raise CorpusError(f"corpus={name!r} must be one of {', '.join(CORPORA)}")
    return by_key[key(name)]


def _check_options(corpus: Corpus, options: Mapping[str, object]) -> None:
    expected = signature(corpus.load)
    try:
        expected.bind(None, **options)
    except TypeError as error:
        known = list(expected.parameters)[1:]
        raise SettingError(f"corpus={corpus.name!r}: {error}; its options are {known}") from None
    for name, value in options.items():
        if not isinstance(value, str) and (value, expected.parameters[name].default) != (None, None):
            raise SettingError(f"corpus={corpus.name!r}: {name}={value!r} must be text; put it in quotes")
