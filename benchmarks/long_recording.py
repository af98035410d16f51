"""Can a recording of ten minutes be explained, and does taking it piece by piece change anything?

The difference is that of the attributions of all frames of 20 s of RAVDESS, once in one piece and once in
windows of 10 s, relative to their Euclidean length, from the same draws: the embedded backbone, and Base
geometry with random weights, each under a head with random weights that mixes all layers. The memory is the
greatest that a process of its own held at any time, everything included, from Base geometry and noise of a
slowly moving level; the draws go through the path that begins at the frames.

    python benchmarks/long_recording.py                      # hours on two cores: ten minutes of sound
    python benchmarks/long_recording.py --minutes 1
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from unittest.mock import patch

import torch
from _base import LABELS
from _common import RAVDESS_BESIDE, SAMPLE_RATE, build_wavlm, draw_waveforms, relative_difference
from _report import Measurement, report
from torch import Tensor

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.long import LongBackbone
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

CLIP_S, QUICK_CLIP_S, WINDOW_S = 20.0, 2.0, 10.0
DRAWS = {"embedded": 64, "Base": 4}
LONG_DRAWS = 2
TOLD_EVERY_S = 60.0
BAR_DIFFERENCE, BAR_GB = 0.05, 8.0
RUN = "--run"


def main() -> None:
    """Measure and report."""
    arguments = _arguments()
    minutes = 0.1 if arguments.quick else arguments.minutes
    measurements = [_difference(name, arguments) for name in DRAWS]
    measurements += _long(minutes)
    report("long_recording", measurements, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="try it out on little; the numbers mean nothing")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the long recording (default 10)")
    parser.add_argument("--root", type=Path, default=RAVDESS_BESIDE, help="folder of RAVDESS")
    return parser.parse_args()


def build(name: str) -> EmotionClassifier:
    """The embedded backbone or random weights of Base size, under a random head."""
    backbone = SpeechBackbone(
        "tiny" if name == "embedded" else PretrainedSpeechModel(build_wavlm(), name="random")
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return EmotionClassifier(backbone, LABELS).requires_grad_(False).eval()  # noqa: FBT003


def _difference(name: str, arguments: argparse.Namespace) -> Measurement:
    duration_s = QUICK_CLIP_S if arguments.quick else CLIP_S
    waveform, classifier = _speech(arguments.root, duration_s), build(name)
    pieces = {"one piece": duration_s, "windows": WINDOW_S * duration_s / CLIP_S}
    settings = {"stages": ("frames",), "num_draws": DRAWS[name]}
    found = {
        piece: explain(classifier, waveform, target="happy", window_s=window_s, **settings).values(
            "frames", "frames"
        )
        for piece, window_s in pieces.items()
    }
    difference = relative_difference(found["windows"], found["one piece"])
    return Measurement(
        f"{name}: difference to one piece, {duration_s:g} s",
        difference,
        at_most=BAR_DIFFERENCE,
        note=f"{DRAWS[name]} draws",
    )


def _speech(root: Path, duration_s: float) -> Tensor:
    """Clips of many actors, one after the other."""
    paths = sorted(root.rglob("*.flac")) or sorted(root.rglob("*.wav"))
    if not paths:
        sys.exit(f"--root={root} holds no clips of RAVDESS; give the folder that does")
    clips, left = [], round(duration_s * SAMPLE_RATE)
    for path in paths[::37]:
        clips.append(torch.from_numpy(load_audio(path, sample_rate=SAMPLE_RATE))[:left])
        left -= len(clips[-1])
        if not left:
            break
    return torch.cat(clips)


def _long(minutes: float) -> list[Measurement]:
    command = [sys.executable, __file__, RUN, str(minutes), str(LONG_DRAWS)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent
    )  # what it says on the way goes to standard error
    peak_gb, seconds, draw_seconds, gap = json.loads(done.stdout.splitlines()[-1])
    name = f"Base, {minutes:g} min, frames"
    note = f"{LONG_DRAWS} draws, of {draw_seconds:.0f} s each; what was missing to completeness: {gap:.1g}"
    return [
        Measurement(f"{name}: greatest memory", peak_gb, unit="GB", at_most=BAR_GB),
        Measurement(f"{name}: time", seconds, unit="s", note=note),
    ]


def run_once(minutes: float, num_draws: int) -> None:
    """Explain once; print the greatest resident memory, the seconds, those of a draw, and what is missing."""
    classifier = build("Base")
    (waveform,) = draw_waveforms([60.0 * minutes])
    began = time.perf_counter()
    with tell_now_and_then(began):
        found = explain(classifier, waveform, target="happy", stages=("frames",), num_draws=num_draws)
    seconds = time.perf_counter() - began
    attribution = found.attributions["frames"]
    explained = attribution.score[0] - attribution.mean_baseline_score[0]
    missing = abs(float(attribution.sums("frames")[0]) - explained)
    print(json.dumps([_peak_gb(), seconds, seconds / num_draws, missing]))


@contextmanager
def tell_now_and_then(began: float) -> Iterator[None]:
    """Within the block say every minute which pass is going on, after how long, and with how much memory."""
    passes, ended = Counter[str](), Event()
    kinds = {"mixed": "transformer", "frontend": "frontend"}

    def counted(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Tensor) -> Tensor:
            passes[name] += 1
            return function(*args)

        return call

    def tell() -> None:
        while not ended.wait(TOLD_EVERY_S):
            going_on = ", ".join(f"{name} {count}" for name, count in passes.items())
            line = f"{time.perf_counter() - began:.0f} s: passes begun: {going_on}; {_peak_gb():.2f} GB\n"
            sys.stderr.write(line)

    wrapped = {name: counted(kinds[name], getattr(LongBackbone, name)) for name in kinds}
    with patch.multiple(LongBackbone, **wrapped):
        Thread(target=tell, daemon=True).start()
        try:
            yield
        finally:
            ended.set()


def _peak_gb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024)


if __name__ == "__main__":
    if sys.argv[1:2] == [RUN]:
        run_once(float(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
