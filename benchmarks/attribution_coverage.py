"""Do the stated 95 % intervals hold what they state?

Three classifiers: a head on Whisper tiny.en and the demo's on the embedded backbone (layer norm), and a
small random WavLM with group norm whose head is trained here, on twelve other actors. Crops of recordings of
RAVDESS with planted cues are explained through `Explainer`: every stage, every family of baselines, 64 and
256 draws. Recorded baselines are crops of others of the same actors; 16 noises are given as recordings as
well, so that every seed has the same. Reported are actors who trained none of the heads (`--split test`, the
default); the estimator was chosen on four others (`--split validation`).

Coverage is the share of units (frames, or layers x frames; without those that are given nothing) whose
interval holds the converged value, mean over clips and seeds, with its range over clips. Converged values:
for recorded baselines Gauss-Legendre quadrature from each, which shares nothing with the sampler, but 2048
draws on the waveform, where Whisper's log spectrum has kinks; for distributions the mean of all runs of
256 draws, of all others for each of these, whose error is allowed for. Errors below
1e-5 of the largest attribution, the precision of the numbers, count as none. Error: root mean square over
units, relative to that of the map; width: median half-width over units, relative to the same. Wrong: frames
named certain that are not among the strongest of the converged map.

    python benchmarks/attribution_coverage.py --root RAVDESS --planted DIR --backbones WHISPER
    python benchmarks/attribution_coverage.py ... --panels Whisper      # the rest as last reported
    python benchmarks/attribution_coverage.py ... --clips 8 --repeats 16     # more clips, more seeds
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from _common import RESULTS, SAMPLE_RATE, Measurement, read_arguments, report, spread_weights
from _problems import build_classifier, loudest_start
from _runs import demo_checkpoint, planted_whisper
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.attribution.reliability import measure_reliability
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.settings import STAGES, ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.training.data.dataset import read_waveform

CROP_SAMPLES = round(0.25 * SAMPLE_RATE)
WHISPER_HEAD = "1-attentive"
NUM_DRAWS = (64, 256)
NUM_NODES, REFERENCE_DRAWS = 64, 2048
COUNTS = (1, 4, 9, 16)
MODELS = ("group norm", "embedded", "Whisper")
VIEWS = {"waveform": "frames", "frames": "frames", "layers": "layer_frame"}
DRAWN = ("noise", "spectral_noise", "time_shifted")
RECORDED = {f"{count} recordings": ("recordings", count) for count in COUNTS} | {"16 noises": ("noises", 16)}
LOW, HIGH, MOST_WRONG = 0.92, 0.99, 0.05
PRECISION, REFERENCE_SEED = 1e-5, 987_654
HEAD_CLIPS, HEAD_STEPS = 240, 150


@dataclass(frozen=True)
class Run:
    """One explanation against the converged one."""

    coverage: float
    error: float
    width: float
    named: int
    wrong: int


@dataclass(frozen=True)
class Row:
    """All runs of a combination with one number of draws."""

    model: str
    stage: str
    baselines: str
    num_draws: int
    clips: int
    seeds: int
    coverage: float
    low: float
    high: float
    error: float
    width: float
    named: int
    wrong: int
    runs_wrong: float


def main() -> None:
    """Measure every combination and report."""
    needs = ["root", "cache_dir", "checkpoint", "planted", "backbones", "split", "panels", "clips", "repeats"]
    arguments = read_arguments(__doc__, needs=needs, panels=MODELS, clips=2, repeats=4)
    clips, heads = planted_whisper(arguments.planted, arguments.root, arguments.backbones[0])
    explained = [clip for clip in clips if clip.split == arguments.split and clip.evidence]
    rows = []
    for name in arguments.panels:
        if name == "group norm":
            model = trained_group_norm([clip for clip in clips if clip.split == "train"])
        else:
            model = load_classifier(heads[WHISPER_HEAD] if name == "Whisper" else demo_checkpoint(arguments))
        rows += rows_of(name, model, explained, arguments)
    last = RESULTS / f"attribution_coverage{'-quick' if arguments.quick else ''}.json"
    known = json.loads(last.read_text())["rows"] if last.is_file() else []
    rows = [Row(**row) for row in known if row["model"] not in arguments.panels] + rows
    print_rows(rows)
    report(
        "attribution_coverage",
        summary(rows),
        arguments,
        split=arguments.split,
        rows=[asdict(row) for row in rows],
    )


def trained_group_norm(clips: Sequence[Clip]) -> EmotionClassifier:
    """A small random WavLM whose frontend normalizes over the clip, and a head trained to tell the cues."""
    classifier = build_classifier(0)
    classifier.labels = tuple(sorted({clip.label for clip in clips}))
    spread_weights(classifier.backbone)
    chosen = every(clips, HEAD_CLIPS)
    crops = torch.stack([loudest_crop(clip) for clip in chosen])
    targets = torch.tensor([classifier.labels.index(clip.label) for clip in chosen])
    with torch.no_grad():
        layers = torch.cat([classifier.encoder(classifier.frontend(part)) for part in crops.split(24)])
    optimizer = torch.optim.Adam(classifier.head.parameters(), 3e-3)
    classifier.head.train()
    torch.default_generator.manual_seed(0)
    for _ in range(HEAD_STEPS):
        optimizer.zero_grad()
        cross_entropy(classifier.head(layers), targets).backward()
        optimizer.step()
    return classifier.requires_grad_(False).eval()  # noqa: FBT003


def every(clips: Sequence[Clip], count: int) -> list[Clip]:
    """So many clips, evenly spaced."""
    return [clips[index * len(clips) // count] for index in range(min(count, len(clips)))]


def loudest_crop(clip: Clip) -> Tensor:
    """The loudest part of a recording."""
    waveform = read_waveform(clip, SAMPLE_RATE)
    start = loudest_start(waveform.numpy(), CROP_SAMPLES)
    return waveform[start : start + CROP_SAMPLES].clone()


def rows_of(
    name: str, model: EmotionClassifier, clips: Sequence[Clip], arguments: argparse.Namespace
) -> Iterator[Row]:
    """Rows of one classifier."""
    num_clips, quick, num_seeds = arguments.clips, arguments.quick, arguments.repeats
    crops = [loudest_crop(clip) for clip in every(clips, num_clips + 16)]
    runs: dict[tuple[str, str, int], list[list[Run]]] = {}
    for index, crop in enumerate(crops[:num_clips]):
        drawn = noise(crop).declare(16, torch.Generator().manual_seed(index)).values
        others = {"recordings": crops[num_clips:], "noises": list(drawn)}
        found = {
            **drawn_runs(model, crop, num_seeds),
            **recorded_runs(model, crop, others, num_seeds, quick=quick),
        }
        for key, one in found.items():
            runs.setdefault(key, []).append(one)
    for (stage, family, num_draws), by_clip in sorted(runs.items()):
        every_run = [run for one in by_clip for run in one]
        coverages = [statistics.fmean(run.coverage for run in one) for one in by_clip]
        yield Row(
            name,
            stage,
            family,
            num_draws,
            num_clips,
            num_seeds,
            statistics.fmean(coverages),
            min(coverages),
            max(coverages),
            statistics.fmean(run.error**2 for run in every_run) ** 0.5,
            statistics.median(run.width for run in every_run),
            sum(run.named for run in every_run),
            sum(run.wrong for run in every_run),
            statistics.fmean(run.wrong > 0 for run in every_run),
        )


Runs = dict[tuple[str, str, int], list[Run]]


def drawn_runs(model: EmotionClassifier, crop: Tensor, num_seeds: int) -> Runs:
    """Runs with a fresh baseline for every draw, each against the mean of all others of 256 draws."""
    found = {}
    for family in DRAWN:
        many, few = (
            [views_of(model, crop, seed, baselines=family, num_draws=num_draws) for seed in range(num_seeds)]
            for num_draws, seeds in ((256, range(num_seeds)), (64, range(100, 100 + num_seeds)))
        )
        for stage in STAGES:
            values = torch.stack([views[stage].values for views in many])
            mean = values.mean(0)
            others = (len(values) * mean - values) / (len(values) - 1)
            ours = (1 - 1 / len(values)) ** 0.5  # of a difference of independent means
            pairs = zip(many, others, strict=True)
            found[stage, family, 256] = [compared(views[stage], other, ours) for views, other in pairs]
            found[stage, family, 64] = [compared(views[stage], mean) for views in few]
    return found


def recorded_runs(
    model: EmotionClassifier, crop: Tensor, others: dict[str, list[Tensor]], num_seeds: int, *, quick: bool
) -> Runs:
    """Runs with recordings as baselines, against quadrature from each of these."""
    exact = {name: converged(model, crop, sounds, quick=quick) for name, sounds in others.items()}
    found = {}
    for family, (name, count) in RECORDED.items():
        for num_draws in NUM_DRAWS:
            runs = [
                views_of(model, crop, seed, others[name][:count], num_draws=num_draws)
                for seed in range(num_seeds)
            ]
            for stage in STAGES:
                mean = torch.stack([views[stage].values for views in exact[name][:count]]).mean(0)
                found[stage, family, num_draws] = [compared(views[stage], mean) for views in runs]
    return found


def converged(
    model: EmotionClassifier, crop: Tensor, recordings: Sequence[Tensor], *, quick: bool
) -> list[dict[str, ViewEstimate]]:
    """Attributions from each recording, after more draws for those that are among few."""
    found, nodes = [], 8 if quick else NUM_NODES
    quadrature = {"stages": ("frames", "layers"), "method": "integrated_gradients", "num_draws": nodes}
    for index, one in enumerate(recordings):
        among = min(count for count in COUNTS if count > index)
        draws = 64 if quick else REFERENCE_DRAWS // among // 4 * 4
        on_waveform = views_of(model, crop, REFERENCE_SEED, [one], stages=("waveform",), num_draws=draws)
        found.append(views_of(model, crop, 0, [one], **quadrature) | on_waveform)
    return found


def views_of(
    model: EmotionClassifier, crop: Tensor, seed: int, recordings: Sequence[Tensor] = (), **settings: object
) -> dict[str, ViewEstimate]:
    """Attributions at each stage."""
    settings = {"stages": STAGES, "baselines": "other_clips" if recordings else "noise", **settings}
    chosen = ExplainSettings(seed=seed, **settings)  # type: ignore[arg-type]
    explanation = Explainer(model, chosen).explain(crop, recordings=recordings, check_baselines=False)
    return {stage: found.views[VIEWS[stage]] for stage, found in explanation.attributions.items()}


def compared(found: ViewEstimate, converged: Tensor, ours: float = 1.0) -> Run:
    """One view against converged values, of whose difference from it `ours` is its own error."""
    values, reference, half_width = (
        one[0].flatten() for one in (found.values, converged, found.half_width())
    )
    explained = reference.abs() > PRECISION * reference.abs().max()
    size = reference[explained].square().mean().sqrt()
    error = ours * (values - reference).abs()
    covered = error <= half_width + PRECISION * reference.abs().max()
    named, wrong = 0, 0
    if found.values.ndim == 2 and (reliability := measure_reliability(found, 0)) is not None:
        strongest = reference.abs().topk(reliability.k).indices.tolist()
        named, wrong = len(reliability.certain), len({*reliability.certain} - {*strongest})
    return Run(
        float(covered[explained].double().mean()),
        float(error[explained].square().mean().sqrt() / size),
        float(half_width[explained].median() / size),
        named,
        wrong,
    )


def print_rows(rows: Sequence[Row]) -> None:
    """One line for each combination."""
    table = Table(title="coverage of 95 % intervals")
    columns = ("model", "stage", "baselines", "at 64", "range", "error", "width", "wrong")
    for column in (*columns, *("at 256", *columns[4:])):
        table.add_column(column, justify="left" if column in columns[:3] else "right")
    for few, many in pairwise(rows):
        if few.num_draws < many.num_draws:
            cells = (cell for row in (few, many) for cell in _cells(row))
            table.add_row(few.model, few.stage, few.baselines, *cells)
    Console(width=150).print(table)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.coverage:.3f}",
        f"{row.low:.2f} to {row.high:.2f}",
        f"{row.error:.2%}",
        f"{row.width:.2%}",
        f"{row.wrong} of {row.named}" if row.named else "-",
    )


def summary(rows: Sequence[Row]) -> list[Measurement]:
    """What is claimed: the extremes, and what is named certain."""
    lines = []
    for num_draws in NUM_DRAWS:
        chosen = [row for row in rows if row.num_draws == num_draws]
        for name, row, bar in (
            ("lowest", min(chosen, key=lambda row: row.coverage), {"at_least": LOW}),
            ("highest", max(chosen, key=lambda row: row.coverage), {"at_most": HIGH}),
        ):
            note = f"{row.model}, {row.stage}, {row.baselines}: error {row.error:.2%}, width {row.width:.2%}"
            named = f"{name} coverage, {num_draws} draws"
            lines.append(Measurement(named, row.coverage, row.low, row.high, note=note, **bar))
        inside = statistics.fmean(LOW <= row.coverage <= HIGH for row in chosen)
        above = statistics.fmean(row.coverage > HIGH for row in chosen)
        note = f"{above:.0%} above, their median error {_median_error(chosen):.2%}"
        lines.append(Measurement(f"combinations at {LOW} to {HIGH}, {num_draws} draws", inside, note=note))
    for name in dict.fromkeys(row.model for row in rows):
        default = [r for r in rows if (r.model, r.stage, r.num_draws) == (name, "frames", 64)]
        for what, chosen in (
            ("default settings", [row for row in default if row.baselines == "noise"]),
            ("every combination", [row for row in rows if row.model == name]),
        ):
            named = sum(row.named for row in chosen)
            share = sum(row.wrong for row in chosen) / max(named, 1)
            runs = statistics.fmean(row.runs_wrong for row in chosen)
            note = f"{named} named; in {runs:.1%} of the runs any"
            lines.append(
                Measurement(f"{name}, {what}: wrongly named certain", share, at_most=MOST_WRONG, note=note)
            )
    return lines


def _median_error(rows: Sequence[Row]) -> float:
    above = [row.error for row in rows if row.coverage > HIGH]
    return statistics.median(above) if above else 0.0


if __name__ == "__main__":
    main()
