"""How many seconds of sound does feature extraction get through in a second?

Ours (`extract_features`: read, batch, run, reduce, store) against a plain loop over transformers, one
clip at a time (`no_grad`, `eval`, `output_hidden_states`), at Base geometry with random weights. Both read
the same files with the same reader and keep the mean of every layer. Batches are tried by the seconds
they may hold.

    python benchmarks/extraction.py
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from _common import (
    SAMPLE_RATE,
    Measurement,
    bf16_refusal,
    build_wavlm,
    draw_waveforms,
    over_repeats,
    ratios,
    read_arguments,
    report,
    time_interleaved,
)
from torch import Tensor

from wavshap_lightning.audio.io import hash_audio_file, save_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.models.backbone import Precision, SpeechBackbone
from wavshap_lightning.models.frontends import TransformersModule
from wavshap_lightning.models.pooling import Statistic
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.training.data import extraction as features
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.data.extraction import extract_features, open_feature_cache
from wavshap_lightning.training.data.preparation import KeyedClip

SHORTEST_S, LONGEST_S = 2.0, 5.0
NUM_CLIPS, QUICK_CLIPS = 12, 2
# Seconds a batch may hold: one clip at a time, about two, about four (on a GPU, many more).
CPU_LIMITS_S, GPU_LIMITS_S = (0.0, 10.0, 20.0), (0.0, 60.0, 240.0, 480.0)
BARS: dict[Precision, float] = {"fp32": 1.2, "bf16": 2.5}
PLAIN = "transformers, clip by clip, fp32"
COVARIANCE = "mean and covariance of layers"


def main() -> None:
    """Measure every batch size and precision, interleaved, and report."""
    arguments = read_arguments(__doc__, needs=["device", "repeats"])
    device = arguments.device
    with tempfile.TemporaryDirectory() as folder:
        clips = write_clips(Path(folder), QUICK_CLIPS if arguments.quick else NUM_CLIPS)
        runs = build_runs(clips, Path(folder), device)
        seconds = time_interleaved(runs, 1 if arguments.quick else arguments.repeats, device=device)
    sound_s = sum(keyed.duration_s for keyed in clips)
    measurements = [
        over_repeats(name, [sound_s / value for value in values], unit="s of sound per s")
        for name, values in seconds.items()
    ]
    measurements += [_gain(precision, seconds, device) for precision in BARS]
    report("extraction", measurements, arguments, sound_s=sound_s, num_clips=len(clips))


def write_clips(folder: Path, count: int) -> list[KeyedClip]:
    """Files of 2 to 5 seconds."""
    clips = []
    for index, waveform in enumerate(draw_waveforms(np.linspace(SHORTEST_S, LONGEST_S, count).tolist())):
        path = folder / f"{index}.flac"
        save_audio(path, waveform.numpy())
        clips.append(KeyedClip(Clip(path, "neutral"), hash_audio_file(path), len(waveform) / SAMPLE_RATE))
    return clips


def build_runs(clips: Sequence[KeyedClip], folder: Path, device: str) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    model = build_wavlm().to(device)
    runs: dict[str, Callable[[], object]] = {PLAIN: lambda: plain_loop(model, clips)}
    for precision in BARS:
        if precision == "bf16" and bf16_refusal(device):
            continue
        backbone = SpeechBackbone(
            PretrainedSpeechModel(copy.deepcopy(model), name="random"), precision=precision
        )
        for limit_s in CPU_LIMITS_S if device == "cpu" else GPU_LIMITS_S:
            name = f"ours, {precision}, {f'batches to {limit_s:g} s' if limit_s else 'clip by clip'}"
            runs[name] = _extraction(backbone, clips, "mean", folder, limit_s)
        name = f"ours, {precision}, {COVARIANCE}"
        default_s = features.CPU_BATCH_S if device == "cpu" else features.GPU_BATCH_S
        runs[name] = _extraction(backbone, clips, "moments", folder, default_s)
    return runs


@torch.no_grad()
def plain_loop(model: TransformersModule, clips: Sequence[KeyedClip]) -> list[Tensor]:
    """The mean of every layer, one clip at a time."""
    means = []
    for keyed in clips:
        waveform = read_waveform(keyed.clip, SAMPLE_RATE).to(next(model.parameters()).device)
        layers = model(waveform[None], output_hidden_states=True).hidden_states
        means.append(torch.stack(layers, 1).mean(2).cpu())
    return means


def _extraction(
    backbone: SpeechBackbone, clips: Sequence[KeyedClip], statistic: Statistic, folder: Path, limit_s: float
) -> Callable[[], None]:
    def run() -> None:
        """Into an empty cache, with batches of at most so many seconds."""
        with (
            tempfile.TemporaryDirectory(dir=folder) as cache_folder,
            mock.patch.multiple(features, CPU_BATCH_S=limit_s, GPU_BATCH_S=limit_s),
        ):
            cache = open_feature_cache(Path(cache_folder), backbone, statistic)
            extract_features(backbone, clips, statistic, cache)

    return run


def _gain(precision: Precision, seconds: dict[str, list[float]], device: str) -> Measurement:
    """The best batch size of one precision against the plain loop."""
    name, bar = f"{precision}, times the plain loop", BARS[precision]
    tried = {
        run: values
        for run, values in seconds.items()
        if run.startswith(f"ours, {precision}") and not run.endswith(COVARIANCE)
    }
    if not tried:
        return Measurement(name, None, at_least=bar, unit="x", note=f"skipped: {bf16_refusal(device)}")
    best = min(tried, key=lambda run: statistics.median(tried[run]))
    return over_repeats(
        name, ratios(seconds[PLAIN], seconds[best]), unit="x", at_least=bar, note=f"best: {best}"
    )


if __name__ == "__main__":
    main()
