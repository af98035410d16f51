"""Corpora whose file names say everything: RAVDESS, CREMA-D, EMO-DB, TESS, SAVEE and JL-Corpus."""

from __future__ import annotations

import re
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import Layout
from wavshap_lightning.corpora.naming import NamingScheme, load_by_name

RAVDESS = NamingScheme(
    Layout("ravdess", "Actor_01/03-01-05-01-02-01-01.wav", "https://zenodo.org/records/1188976"),
    re.compile(
        r"(?P<modality>0[123])-(?P<channel>0[12])-(?P<label>\d\d)-0[12]-(?P<text>\d\d)-0[12]-(?P<speaker>\d\d)"
    ),
    labels={
        "01": "neutral",
        "02": "calm",
        "03": "happy",
        "04": "sad",
        "05": "angry",
        "06": "fearful",
        "07": "disgust",
        "08": "surprised",
    },
    texts={"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    # The other modalities repeat the same takes on film; the other channel is song.
    keep={"modality": "03", "channel": "01"},
)

CREMA_D = NamingScheme(
    Layout("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav", "https://github.com/CheyneyComputerScience/CREMA-D"),
    re.compile(r"(?P<speaker>1\d{3})_(?P<text>[A-Z]{3})_(?P<label>[A-Z]{3})_(LO|MD|HI|XX?)", re.IGNORECASE),
    labels={
        "ang": "angry",
        "dis": "disgust",
        "fea": "fearful",
        "hap": "happy",
        "neu": "neutral",
        "sad": "sad",
    },
    texts={
        "dfa": "Don't forget a jacket",
        "ieo": "It's eleven o'clock",
        "iom": "I'm on my way to the meeting",
        "ith": "I think I have a doctor's appointment",
        "its": "I think I've seen this before",
        "iwl": "I would like a new alarm clock",
        "iww": "I wonder what this is about",
        "mti": "Maybe tomorrow it will be cold",
        "tai": "The airplane is almost full",
        "tie": "That is exactly what happened",
        "tsi": "The surface is slick",
        "wsi": "We'll stop in a couple of minutes",
    },
    # The first holds no sound; the second holds all the actor's emotions, one after another, in a minute.
    broken=frozenset({"1076_mti_sad_xx", "1064_ieo_dis_md"}),
    # The repository holds the same clips once more as MP3.
    audio_folder="AudioWAV",
)

EMO_DB = NamingScheme(
    Layout("emo-db", "wav/03a01Fa.wav", "http://emodb.bilderbar.info"),
    re.compile(r"(?P<speaker>\d\d)[a-z]\d\d(?P<label>[a-z])[a-z]?", re.IGNORECASE),
    labels={
        "w": "angry",
        "l": "bored",
        "e": "disgust",
        "a": "fearful",
        "f": "happy",
        "t": "sad",
        "n": "neutral",
    },
)

TESS = NamingScheme(
    Layout("tess", "OAF_angry/OAF_back_angry.wav", "https://doi.org/10.5683/SP2/E8H2MF"),
    re.compile(r"(?P<speaker>OAF?|YAF)_(?P<text>[a-z]+)_(?P<label>[a-z]+)", re.IGNORECASE),
    labels={
        "angry": "angry",
        "disgust": "disgust",
        "fear": "fearful",
        "happy": "happy",
        "neutral": "neutral",
        "ps": "surprised",
        "sad": "sad",
    },
    # One file of the release is misspelt: OA_bite_neutral.
    speakers={"oa": "OAF", "oaf": "OAF", "yaf": "YAF"},
)

SAVEE = NamingScheme(
    Layout("savee", "DC/a01.wav", "http://kahlan.eps.surrey.ac.uk/savee (after registration)"),
    re.compile(r"(?P<speaker>DC|JE|JK|KL)[/_](?P<label>[a-z]{1,2})\d\d", re.IGNORECASE),
    labels={
        "a": "angry",
        "d": "disgust",
        "f": "fearful",
        "h": "happy",
        "n": "neutral",
        "sa": "sad",
        "su": "surprised",
    },
    speakers={"dc": "DC", "je": "JE", "jk": "JK", "kl": "KL"},
)

JL_CORPUS = NamingScheme(
    Layout("jl-corpus", "female1_angry_10a_1.wav", "https://www.kaggle.com/datasets/tli725/jl-corpus"),
    re.compile(r"(?P<speaker>female[12]|male[12])_(?P<label>[a-z]+)_\d+[ab]_\d"),
    labels={
        "neutral": "neutral",
        "happy": "happy",
        "sad": "sad",
        "angry": "angry",
        "excited": "excited",
        "anxious": "anxious",
        "apologetic": "apologetic",
        "assertive": "assertive",
        "concerned": "concerned",
        "encouraging": "encouraging",
    },
)


def load_ravdess(root: Path | str) -> list[Clip]:
    """RAVDESS: 1440 clips of speech by 24 actors, named `"01"` to `"24"`; odd numbers are men."""
    return load_by_name(root, RAVDESS)


def load_crema_d(root: Path | str) -> list[Clip]:
    """CREMA-D: 7440 clips by 91 actors, two broken ones left out by name.

    The label is the emotion intended, not what raters heard.
    """
    return load_by_name(root, CREMA_D)


def load_emo_db(root: Path | str) -> list[Clip]:
    """EMO-DB: 535 German clips by 10 actors."""
    return load_by_name(root, EMO_DB)


def load_tess(root: Path | str) -> list[Clip]:
    """TESS: 2800 clips by two actresses; the text is the one word that changes."""
    return load_by_name(root, TESS)


def load_savee(root: Path | str) -> list[Clip]:
    """SAVEE: 480 clips by four men, whom the folder (`DC/a01`) or the file (`DC_a01`) names."""
    return load_by_name(root, SAVEE)


def load_jl_corpus(root: Path | str) -> list[Clip]:
    """JL-Corpus: 2400 clips by two women and two men; five primary and five secondary emotions."""
    return load_by_name(root, JL_CORPUS)
