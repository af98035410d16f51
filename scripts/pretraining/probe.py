"""A held-out task to choose a recipe by: which manner of speaking is heard, in voices never trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pretraining.corpus import HELD_OUT_VARIANTS
from pretraining.espeak import LANGUAGES, VARIANTS, EspeakVoice
from pretraining.utterances import (
    Manner,
    Utterance,
    draw_procedural_speaker,
    espeak_utterance,
    procedural_utterance,
)
from wavshap_lightning.planted.voices import Speaker

Task = tuple[list[Utterance], list[str], list[int]]
"""Clips, manners, voices."""

PROBE_SEED = 7_001
CLIPS_PER_MANNER = 4

ESPEAK_MANNERS: dict[str, tuple[int, int, float]] = {  # pitch, range, rate, each relative to the voice's own
    "plain": (0, 0, 1.0),
    "lively": (6, 22, 1.08),
    "flat": (-5, -25, 0.9),
    "hurried": (3, 5, 1.3),
    "high": (14, 5, 1.05),
    "low": (-12, 10, 0.97),
}
PROCEDURAL_MANNERS: dict[str, Manner] = {
    "plain": Manner(),
    "lively": Manner(pitch=2, movement=3.5, effort=0.4, rate=0.1),
    "flat": Manner(pitch=-1.5, movement=0.5, effort=-0.5, rate=-0.15),
    "hurried": Manner(rate=0.35, effort=0.2, pitch=1),
    "trembling": Manner(tremor=0.4, breath=0.15, pitch=1, effort=-0.2),
    "rasping": Manner(roughness=0.4, jitter=0.03, subharmonic=0.15, effort=0.6),
}
"""Small steps from plain speech, so that the task stays far from solved."""


def draw_probe(*, num_voices: int = 18) -> dict[str, Task]:
    """Clips, manners and voices of both kinds of speech."""
    espeak: Task = ([], [], [])
    procedural: Task = ([], [], [])
    for voice in range(num_voices):
        generator = np.random.default_rng([PROBE_SEED, voice])
        base, speaker = _draw_espeak_voice(generator, voice), draw_procedural_speaker(generator)
        for _ in range(CLIPS_PER_MANNER):
            for manner in ESPEAK_MANNERS:
                _append(espeak, _speak_espeak(base, manner, generator), manner, voice)
            for manner in PROCEDURAL_MANNERS:
                _append(procedural, _speak_procedural(speaker, manner, generator), manner, voice)
    return {"espeak": espeak, "procedural": procedural}


def hear(clips: list[Utterance], voices: list[int]) -> Float[Tensor, "clips time"]:
    """The clips as recorded: one microphone, level and room a voice, a little noise."""
    waveforms = torch.from_numpy(np.stack([clip.waveform for clip in clips]))
    parts = []
    for voice in sorted(set(voices)):
        chosen = waveforms[torch.tensor(voices) == voice]
        generator = torch.Generator().manual_seed(PROBE_SEED + voice)
        level_db = -40 + 15 * torch.rand((), generator=generator)
        at_level = chosen / chosen.square().mean().sqrt() * 10 ** (level_db / 20)
        noise_db = -45 + 20 * torch.rand((), generator=generator)
        noise = torch.randn(chosen.shape, generator=generator) * 10 ** ((level_db + noise_db) / 20)
        parts.append(at_level + noise)
    return torch.cat(parts)


def score(features: Float[np.ndarray, "clips features"], manners: list[str], voices: list[int]) -> float:
    """UAR of logistic regression over six folds of voices."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2_000))
    predicted = cross_val_predict(model, features, manners, groups=voices, cv=GroupKFold(6))
    return float(balanced_accuracy_score(manners, predicted))


def _append(task: Task, clip: Utterance, manner: str, voice: int) -> None:
    clips, manners, voices = task
    clips.append(clip)
    manners.append(manner)
    voices.append(voice)


def _draw_espeak_voice(generator: np.random.Generator, voice: int) -> EspeakVoice:
    variant = VARIANTS[HELD_OUT_VARIANTS[voice % len(HELD_OUT_VARIANTS)]]
    return EspeakVoice(str(generator.choice(LANGUAGES)), variant, int(generator.uniform(150, 200)), 50, 55)


def _speak_espeak(base: EspeakVoice, manner: str, generator: np.random.Generator) -> Utterance:
    pitch, pitch_range, rate = ESPEAK_MANNERS[manner]
    changed = replace(
        base,
        pitch=int(np.clip(base.pitch + pitch + generator.normal(0, 4), 0, 100)),
        pitch_range=int(np.clip(base.pitch_range + pitch_range + generator.normal(0, 6), 0, 100)),
        rate_wpm=int(base.rate_wpm * rate * np.exp(generator.normal(0, 0.05))),
    )
    return espeak_utterance(changed, -1, generator, num_words=int(generator.integers(4, 8)))


def _speak_procedural(speaker: Speaker, manner: str, generator: np.random.Generator) -> Utterance:
    base = PROCEDURAL_MANNERS[manner]
    varied = replace(
        base,
        pitch=base.pitch + generator.normal(0, 0.8),
        rate=base.rate + generator.normal(0, 0.08),
        effort=float(np.clip(base.effort + generator.normal(0, 0.2), -1, 1)),
    )
    return procedural_utterance(speaker, varied, generator)
