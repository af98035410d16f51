"""A clip for those who have none at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wavshap_lightning.audio.io import SAMPLE_RATE, save_audio
from wavshap_lightning.cli.explain_items import Item, name_items
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.synthetic.scene import CUE_OF_LABEL, draw_clip
from wavshap_lightning.corpora.synthetic.speech import draw_speaker

EXAMPLE_LABEL = "angry"


def make_example(folder: Path, seed: int) -> list[Item]:
    """A clip of synthetic speech with a rough voice in a known span, written so that it can be heard.

    Raises:
        AudioError: If it cannot be written.
    """
    generator = np.random.default_rng(seed)
    speaker = draw_speaker(generator, voice="female")
    waveform, evidence = draw_clip(speaker, EXAMPLE_LABEL, generator)
    path = folder / "example.wav"
    save_audio(path, waveform, sample_rate=SAMPLE_RATE)
    what = CUE_OF_LABEL[EXAMPLE_LABEL]
    spans = tuple(Span(span.start_s, span.end_s, what or "") for span in evidence)
    return name_items([Item(path, clip=Clip(path, EXAMPLE_LABEL, evidence=spans))])
