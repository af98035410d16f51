"""What does one epoch of explanations take: layers of all clips, a figure, a budget in seconds, memory?

- Layers: as many clips as RAVDESS has in a fold (960 to train, 240 to validate), statistics of a backbone of
  Base and of tiny size, heads as in the configurations. A head epoch runs over the training clips in batches
  of 32. Either of two bars will do: 0.2 s, or a twentieth of a head epoch.
  Like the next, in seconds of the processor on one core, which suffer less from what else the machine does.
- A figure: drawn, rendered, written, and handed to W&B (offline) and TensorBoard.
- The budget: seconds of the monitor after each epoch of a small training, against those it was given.
- Memory: of the process after epoch 5 and after epoch 50 of a small training with figures and W&B.

    python benchmarks/monitor_epoch.py
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning as L  # noqa: N812
import torch
from _common import Measurement, over_repeats, read_arguments, report
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from wavshap_lightning import EmotionDataModule, EmotionModule, ExplanationMonitor, explain
from wavshap_lightning.models.backbone import BackboneSettings
from wavshap_lightning.models.head import EmotionHead, HeadSettings
from wavshap_lightning.models.pooling import LayerStatistics
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.loggers import RunSettings, build_loggers
from wavshap_lightning.training.monitoring.class_layers import CLIPS_AT_ONCE, NUM_BASELINES, survey_layers
from wavshap_lightning.training.monitoring.probes import Probe, ProbeResult
from wavshap_lightning.training.monitoring.writer import ExplanationLog

GEOMETRIES = {"Base": (13, 768), "tiny": (4, 128)}
NUM_TRAINING, NUM_VALIDATION, NUM_CLASSES, BATCH = 960, 240, 8, 32
LAYERS_BAR_S, LAYERS_BAR, FIGURE_BAR_S, BUDGET_BAR, MEMORY_BAR = 0.2, 0.05, 0.5, 1.15, 1.05
CORPUS = {"num_speakers": 6, "clips_per_speaker_and_label": 2}


def main() -> None:
    """Measure all four and report."""
    arguments = read_arguments(__doc__, needs=["repeats"])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        measurements = [
            *(m for name in GEOMETRIES for m in time_layers(name, arguments.repeats)),
            *time_figure(here, arguments.repeats),
            *keep_budget(here, 3.0, 2 if arguments.quick else 6),
            follow_memory(here, 8 if arguments.quick else 50),
        ]
    report("monitor_epoch", measurements, arguments)


def time_layers(name: str, repeats: int) -> list[Measurement]:
    """Seconds for the layers of all validation clips, and against a head epoch."""
    num_layers, size = GEOMETRIES[name]
    head = EmotionHead(num_layers, size, NUM_CLASSES, HeadSettings())
    training, validation, baselines = (
        draw_moments(count, num_layers, size) for count in (NUM_TRAINING, NUM_VALIDATION, NUM_BASELINES)
    )
    labels = torch.arange(NUM_TRAINING) % NUM_CLASSES
    frozen = EmotionHead(num_layers, size, NUM_CLASSES, HeadSettings()).eval()
    frozen.requires_grad_(requires_grad=False)
    seconds = {
        "layers": processor_seconds(
            lambda: survey(frozen, validation, labels[:NUM_VALIDATION], baselines), repeats
        ),
        "epoch": processor_seconds(lambda: train_epoch(head, training, labels), repeats),
    }
    share = min(seconds["layers"]) / min(seconds["epoch"])
    return [
        over_repeats(
            f"layers of {NUM_VALIDATION} clips, {name}",
            seconds["layers"],
            unit="s",
            at_most=LAYERS_BAR_S if share > LAYERS_BAR else None,
        ),
        Measurement(f"the same against a head epoch, {name}", share, unit="of an epoch"),
    ]


def processor_seconds(function: Callable[[], object], repeats: int) -> list[float]:
    """Of this process, after a first call that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        began_s = time.process_time()
        function()
        seconds.append(time.process_time() - began_s)
    return seconds


def draw_moments(count: int, num_layers: int, size: int) -> LayerStatistics:
    """Statistics as `mean_std` needs them, of random frames."""
    frames = torch.randn(count, num_layers, size, 4, generator=torch.Generator().manual_seed(count))
    rows, columns = torch.triu_indices(num_layers, num_layers)
    return {"mean": frames[..., 0], "covariance": (frames[:, rows] * frames[:, columns]).mean(3)}


def survey(
    head: EmotionHead, clips: LayerStatistics, labels: torch.Tensor, baselines: LayerStatistics
) -> None:
    """As the monitor does it, some clips at a time."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(labels), CLIPS_AT_ONCE):
        part = slice(start, start + CLIPS_AT_ONCE)
        batch = {name: values[part] for name, values in clips.items()}
        survey_layers(head, batch, labels[part], baselines, generator)


def train_epoch(head: EmotionHead, clips: LayerStatistics, labels: torch.Tensor) -> None:
    """The arithmetic of an epoch, without what a trainer adds."""
    optimizer = torch.optim.AdamW(head.parameters())
    for start in range(0, len(labels), BATCH):
        chosen = torch.arange(start, start + BATCH)
        logits = head.classify_statistics({name: values[chosen] for name, values in clips.items()})
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels[chosen]).backward()
        optimizer.step()


def time_figure(folder: Path, repeats: int) -> list[Measurement]:
    """Seconds from an explanation to its figure, in the folder and in both loggers."""
    data, module = small_training(folder)
    trainer = quiet_trainer(
        folder / "figure", 1, build_loggers(RunSettings(wandb="off"), folder / "figure")[0]
    )
    trainer.fit(module, datamodule=data)
    clip = data.clips("validation")[0]
    explanation = explain(module.classifier.eval(), clip, target=clip.label, num_draws=16)
    waveform = read_waveform(clip, explanation.sample_rate)
    result = ProbeResult(Probe(clip, clip.name, "key", "named"), waveform, explanation, [])
    loggers = [open_wandb(folder / "figure"), TensorBoardLogger(str(folder / "board"))]
    steps = itertools.count()

    def draw() -> None:
        place, step = folder / "figure", next(steps)
        log = ExplanationLog(place, loggers, step, split="validation", moment="epoch_000")
        log.figures(result)
        log.rows(0, [])

    seconds = processor_seconds(draw, max(5, repeats))
    note = "drawn, rendered, written, handed to W&B and TensorBoard"
    return [over_repeats("a figure", seconds, unit="s", at_most=FIGURE_BAR_S, note=note)]


def keep_budget(folder: Path, seconds: float, epochs: int) -> list[Measurement]:
    """How long the monitor takes after an epoch, relative to what it was given."""
    data, module = small_training(folder)
    stopwatch = Stopwatch(max_seconds=seconds, num_draws=4096, per_class=1)
    quiet_trainer(
        folder / "budget", epochs, build_loggers(RunSettings(wandb="off"), folder / "budget")[0], stopwatch
    ).fit(module, datamodule=data)
    taken = [one / seconds for one in stopwatch.seconds[1:]]
    note = f"{seconds:g} s; the first epoch, {stopwatch.seconds[0] / seconds:.2f}, prepares baselines besides"
    return [over_repeats("seconds of an epoch against its budget", taken, at_most=BUDGET_BAR, note=note)]


def follow_memory(folder: Path, epochs: int) -> Measurement:
    """Memory after the last epoch against that after the fifth."""
    data, module = small_training(folder)
    stopwatch = Stopwatch(num_draws=4, per_class=0, num_hardest=1, num_wrong=0)
    loggers = [build_loggers(RunSettings(wandb="off"), folder / "memory")[0], open_wandb(folder / "memory")]
    quiet_trainer(folder / "memory", epochs, loggers, stopwatch).fit(module, datamodule=data)
    early, late = stopwatch.bytes[5], stopwatch.bytes[-1]
    note = f"{early / 2**20:.0f} MB after epoch 5, {late / 2**20:.0f} MB after {epochs}"
    return Measurement(
        "memory after all epochs against epoch 5", late / early, unit="x", at_most=MEMORY_BAR, note=note
    )


class Stopwatch(ExplanationMonitor):
    """Notes what each epoch took, and how much memory the process then has."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.seconds: list[float] = []
        self.bytes: list[int] = []

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock around what the monitor does."""
        began_s = time.perf_counter()
        super().on_validation_epoch_end(trainer, pl_module)
        self.seconds.append(time.perf_counter() - began_s)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.bytes.append(pages * os.sysconf("SC_PAGE_SIZE"))


def small_training(folder: Path) -> tuple[EmotionDataModule, EmotionModule]:
    """PlantedSpeech with a head on the embedded backbone."""
    data = EmotionDataModule("planted", options=CORPUS, cache_dir=str(folder / "cache"))
    return data, EmotionModule(data.labels, BackboneSettings("tiny"))


def quiet_trainer(
    folder: Path, epochs: int, logger: Logger | list[Logger], *callbacks: L.Callback
) -> L.Trainer:
    """On one core, without bars."""
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=logger,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


def open_wandb(folder: Path) -> WandbLogger:
    """Offline, quietly."""
    os.environ.setdefault("WANDB_SILENT", "true")
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(save_dir=folder, project="benchmark", mode="offline", settings={"console": "off"})


if __name__ == "__main__":
    main()
