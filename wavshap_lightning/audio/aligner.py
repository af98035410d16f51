"""Forced alignment of English words and phones with their text, by PocketSphinx."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from math import exp
from typing import Any

import numpy as np
from jaxtyping import Float

from wavshap_lightning.audio.alignments import Alignment
from wavshap_lightning.audio.io import SAMPLE_RATE, resample
from wavshap_lightning.audio.segments import LOW_CONFIDENCE, Segment
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.files import default_cache_directory, digest_of, write_json

Waveform = Float[np.ndarray, " num_samples"]
Aligner = Callable[[Waveform, int, str], Alignment]
"""Words and phones of a waveform of one channel, from its sample rate and its text."""

FRAME_S = 0.01
# The window of a frame is 25.6 ms long and begins with the frame: the boundary between two frames lies
# half-way between the centers of their windows.
BOUNDARY_S = (0.0256 - FRAME_S) / 2

# Probability relative to the best path below which a path is dropped; the next is tried where none is left.
BEAMS = (1e-120, 1e-250)
# All states are scored, so that a score is relative to the best of all phones in every frame. The text is
# known, so that neither words nor pauses have a penalty.
OPTIONS = {"lm": None, "loglevel": "FATAL", "bestpath": False, "compallsen": True, "lw": 1.0, "wip": 1.0}

# Score of a frame at which a word is as likely right as wrong, and the spread around it.
# Chosen on actors 1 to 12 of RAVDESS, aligned with their own text and with sentences of CREMA-D.
EVEN_SCORE, SCORE_SPREAD = -68.0, 8.0

_NO_SPEECH = re.compile(r"<[^<>]*>|\[[^][]*\]|\{[^{}]*\}")
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:'[^\W_]+)*")
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_ONES = f"zero one two three four five six seven eight nine {_TEENS}".split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NAMES = [*_ONES, *(f"{ten} {one}".removesuffix(" zero") for ten in _TENS for one in _ONES[:10])]
NUMBERS = {str(number): name for number, name in enumerate(_NAMES)}
"""Whole numbers from 0 to 99 in words; longer ones are read in several ways, such as years."""


def align(waveform: Waveform, sample_rate: int, text: str) -> Alignment:
    """Words and phones of an English text in a recording, with a confidence for each word.

    A first pass places the words, with the pauses between them; a second one the phones, whose ends are those
    of the words. A pronunciation is taken from the CMU dictionary, of a compound from its two parts.
    The confidence is a logistic function of the mean score of a word's frames, relative to the best of all
    states of the acoustic model: 1 where no other phone fits better, below 0.5 where the word is doubtful.

    Args:
        waveform: Samples in [-1, 1].
        sample_rate: Samples per second.
        text: The words, in any case and with punctuation; marks in [], <> and {} are left out.

    Raises:
        AudioError: If the text holds no word, or one without pronunciation, the clip is silent, or the text
            does not fit into it.
        SettingError: If pocketsphinx is not installed.
    """
    words, duration_s = spoken_words(text), len(waveform) / sample_rate
    samples = resample(np.asarray(waveform, np.float32), sample_rate, SAMPLE_RATE)
    if not samples.any():
        raise AudioError(f"duration={duration_s:.2f} s of silence hold no word; give a clip with speech")
    sound = np.rint(samples.clip(-1, 1) * 32767).astype(np.int16).tobytes()
    found = next(filter(None, (_decoded(_decoder(beam), sound, words) for beam in BEAMS)), None)
    if found is None:
        raise AudioError(f"text={text!r} does not fit the {duration_s:.2f} s of the clip; is it all spoken?")
    placed, phones = list[Segment](), list[Segment]()
    for word, its in zip(words, found, strict=True):
        spans = [(name, *(_time(frame, duration_s) for frame in edges)) for name, _, *edges in its]
        frame_score = sum(score for _, score, *_ in its) / (its[-1][-1] - its[0][-2])
        confidence = 1 / (1 + exp((EVEN_SCORE - frame_score) / SCORE_SPREAD))
        placed.append(Segment(word, spans[0][1], spans[-1][2], confidence))
        phones += (Segment(*span) for span in spans)
    return Alignment(tuple(placed), tuple(phones))


def align_cached(waveform: Waveform, sample_rate: int, text: str) -> Alignment:
    """As `align`, but computed once: it is kept by its content in the folder of the caches.

    Args:
        waveform: Samples in [-1, 1].
        sample_rate: Samples per second.
        text: The words.

    Raises:
        AudioError: As `align`.
        SettingError: If pocketsphinx is not installed.
    """
    sound = sha256(np.asarray(waveform, np.float32).tobytes()).hexdigest()
    key = {"sound": sound, "sample_rate": sample_rate, "words": spoken_words(text), **identity()}
    place = default_cache_directory() / "alignments" / f"{digest_of(key)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):  # it is not there, or damaged
        kept = json.loads(place.read_text(encoding="utf-8"))
        return Alignment(*(tuple(Segment(**one) for one in kept[tier]) for tier in ("words", "phones")))
    found = align(waveform, sample_rate, text)
    with suppress(OSError):  # of a folder that cannot be written; it takes a moment to compute again
        write_json(place, asdict(found))
    return found


def doubt(alignment: Alignment) -> str:
    """Why a text may be the wrong one: at least half of its words have a low confidence; else empty."""
    low = [one.text for one in alignment.words if (one.confidence or 1.0) < LOW_CONFIDENCE]
    fits = f"low confidence of {', '.join(low[:5])} ({len(low)} of {len(alignment.words)})"
    told = f"the text fits badly, {fits}; is it that of another clip, or not English, or is this no speech?"
    return told if 2 * len(low) >= len(alignment.words) else ""


def identity() -> dict[str, Any]:
    """Everything besides sound and text that an alignment depends on, in plain JSON types.

    Raises:
        SettingError: If pocketsphinx is not installed.
    """
    _decoder(BEAMS[0])
    return {"pocketsphinx": version("pocketsphinx"), "options": OPTIONS, "beams": BEAMS, "format": 1}


def spoken_words(text: str) -> list[str]:
    """The words of a text in lower case, without accents, punctuation and marks in brackets.

    Whole numbers up to 99 are spelled out.

    Raises:
        AudioError: If there is none, or another number, which may be read in several ways.

    >>> spoken_words("[sighs] Well, I've 21 café's well-known doors!")
    ['well', "i've", 'twenty', 'one', "cafe's", 'well', 'known', 'doors']
    """
    plain = unicodedata.normalize("NFKD", _NO_SPEECH.sub(" ", text).replace("\u2019", "'"))
    letters = "".join(sign for sign in plain.casefold() if not unicodedata.combining(sign))
    words = " ".join(NUMBERS.get(word, word) for word in _WORD.findall(letters)).split()
    if not words:
        raise AudioError(f"text={text!r} holds no word; give the words that are spoken")
    if numbers := [word for word in words if any(map(str.isdigit, word))]:
        raise AudioError(f"text={text!r}: write {', '.join(numbers)} as it is spoken, in words")
    return words


@cache
def _decoder(beam: float) -> Any:  # noqa: ANN401 - of a library without types
    try:
        from pocketsphinx import Decoder  # noqa: PLC0415 - optional
    except ImportError as error:
        raise SettingError("words need pocketsphinx: pip install 'wavshap-lightning[align]'") from error
    return Decoder(beam=beam, pbeam=beam, wbeam=beam, **OPTIONS)


def _decoded(decoder: Any, sound: bytes, words: list[str]) -> list[Any] | None:  # noqa: ANN401
    """Name, score, first and last frame of the phones of each word; None if the words do not fit."""
    if unknown := [word for word in dict.fromkeys(words) if not _is_pronounced(decoder, word)]:
        told = f"words={', '.join(unknown)}: not in the English dictionary"
        raise AudioError(f"{told}; write what sounds alike")
    decoder.set_align_text(" ".join(words))
    try:
        _process(decoder, sound)
        decoder.set_alignment()
        _process(decoder, sound)
    except RuntimeError:  # how the decoder says that no path reaches the last word
        return None
    found = [
        (word.name, [(one.name, one.score, one.start, one.start + one.duration) for one in word])
        for word in decoder.get_alignment()
    ]
    spoken = [phones for name, phones in found if name[0] not in "<[+"]  # no pauses and noises
    return spoken if len(spoken) == len(words) else None


def _process(decoder: Any, sound: bytes) -> None:  # noqa: ANN401
    decoder.reinit_feat()  # else means and noise of earlier sounds move the boundaries
    decoder.start_utt()
    try:
        decoder.process_raw(sound, full_utt=True)
    finally:
        decoder.end_utt()


def _is_pronounced(decoder: Any, word: str) -> bool:  # noqa: ANN401
    """True if a word has a pronunciation, if need be that of its two parts, the first as long as possible."""
    if decoder.lookup_word(word) is not None:
        return True
    for cut in range(len(word) - 3, 2, -1):  # shorter parts are letters and endings by chance
        parts = [decoder.lookup_word(part) for part in (word[:cut], word[cut:])]
        if None not in parts:
            decoder.add_word(word, " ".join(parts))
            return True
    return False


def _time(frame: int, duration_s: float) -> float:
    """Time of the boundary before a frame, in seconds."""
    return round(min(frame * FRAME_S + BOUNDARY_S, duration_s), 4) if frame else 0.0
