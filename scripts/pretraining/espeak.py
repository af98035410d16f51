"""Speech from espeak-ng, in this process, through its C library.

The library and its data come with the `espeakng-loader` package. espeak-ng is free software under the GPL,
version 3 or later; what it speaks is its output, which that licence does not cover. The texts are our own.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
from jaxtyping import Float
from scipy import signal

from wavshap_lightning.audio.io import SAMPLE_RATE

LANGUAGES = tuple(
    "en-us en-gb-scotland de fr es it pt nl sv da nb pl cs sk hu ro fi et lt lv tr id ms sw ca eu hr sl sq "
    "cy ga is af az eo la mt vi".split()
)
VARIANTS = tuple(
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 croak whisper whisperf klatt klatt2 klatt3 klatt4 klatt5 klatt6 "
    "Alex Alicia Andrea Andy Annie AnxiousAndy Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario "
    "Michael Mike Nguyen Reed RicishayMax Storm adam anika antonio aunty belinda benjamin boris caleb david "
    "ed edward grandma grandpa gustave ian iven iven2 iven3 john kaukovalta linda marcelo max michel miguel "
    "norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 travis victor zac".split()
)

_SYNCHRONOUS = 2
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHARACTERS = 1
_SSML = 0x10
_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """How espeak-ng speaks.

    Args:
        language: One of `LANGUAGES`.
        variant: One of `VARIANTS`.
        rate_wpm: Words per minute.
        pitch: 0 to 100; 50 is the variant's own.
        pitch_range: 0 (monotone) to 100; 50 is the variant's own.
    """

    language: str
    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int


def speak(ssml: str, voice: EspeakVoice, *, seed: int) -> Float[np.ndarray, " time"]:
    """Speak a text at 16 kHz.

    The library keeps state between calls: the same calls in the same order in a new process give the same
    bytes.

    Args:
        ssml: Text, with SSML marks where wanted.
        voice: How to speak it.
        seed: Decides espeak-ng's own noise.

    Raises:
        RuntimeError: If espeak-ng refuses the voice or says nothing.
    """
    library, pieces = _espeak()
    known = (_data_folder() / "voices" / "!v" / voice.variant).is_file()  # espeak-ng ignores unknown variants
    if not known or library.espeak_SetVoiceByName(f"{voice.language}+{voice.variant}".encode()) != 0:
        raise RuntimeError(f"{voice=} is not among the voices of espeak-ng {library.espeak_Info(None)!r}")
    values = {_RATE: voice.rate_wpm, _VOLUME: 100, _PITCH: voice.pitch, _RANGE: voice.pitch_range}
    for parameter, value in values.items():
        library.espeak_SetParameter(parameter, value, 0)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    pieces.clear()
    text = f"<speak>{ssml}</speak>".encode()
    library.espeak_Synth(text, len(text) + 1, 0, _CHARACTERS, 0, _UTF8 | _SSML, None, None)
    if not pieces:
        raise RuntimeError(f"{ssml=}: espeak-ng said nothing with {voice=}")
    spoken = np.concatenate(pieces).astype(np.float32) / 2**15
    return signal.resample_poly(spoken, 320, 441).astype(np.float32)


def _data_folder() -> Path:
    return Path(espeakng_loader.get_data_path())


@cache
def _espeak() -> tuple[Any, list[np.ndarray]]:
    """The library, and the list its callback fills."""
    library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Info.restype = ctypes.c_char_p
    native_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(_data_folder()).encode(), 0)
    if native_rate * 320 != SAMPLE_RATE * 441:
        raise RuntimeError(f"espeak-ng speaks at {native_rate=} Hz; need 22050")
    pieces: list[np.ndarray] = []

    def collect(samples: Any, count: int, _events: Any) -> int:  # noqa: ANN401
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    library.keep_alive = callback  # C holds a bare pointer
    return library, pieces
