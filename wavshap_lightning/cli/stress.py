"""`train.py stress`: what a trained model breaks on, as a table, a figure, CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from wavshap_lightning.cli.clips import ModelOptions, attempt, find_clips, open_for, open_model
from wavshap_lightning.cli.options import load_yaml
from wavshap_lightning.cli.output import Output, cell, status_of, writing_to
from wavshap_lightning.cli.terminal import complain, on_one_line, say
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import SCHEMES
from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import default_cache_directory, read_text, write_csv, write_json
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import checkpoint_of, models_in
from wavshap_lightning.progress import progress_bars, without_progress_bars
from wavshap_lightning.training.corpus_run import select_clips
from wavshap_lightning.training.cross_validation import score_title
from wavshap_lightning.training.data.extraction import SMALL_BACKBONE, one_thread
from wavshap_lightning.training.study.stress import NUM_MAPS, Answers, Numbers, Step, Subject, ladder
from wavshap_lightning.viz.scorecard_figure import plot_stress


def stress(
    model: str,
    audio: list[str],
    opening: ModelOptions,
    *,
    corpus: str | None = None,
    root: str | None = None,
    options: dict[str, Any] | None = None,
    kinds: Sequence[str] = (),
    limit: int = 100,
    maps: int = NUM_MAPS,
    seed: int = 0,
    device: str = "cpu",
    out: str = "stress",
) -> int:
    """Measure what a model breaks on: noise, rooms, channels, level, tempo, silence, groups of speakers.

    Without recordings the test clips of the model's own run are taken, or those of a corpus.

    Args:
        model: Checkpoint, run, exported folder or Hugging Face model; of a cross-validation, each fold on its
            own test clips.
        audio: Recordings, also of other corpora and languages; labels and speakers are those of manifests, or
            told by file names as in training.
        opening: What the model does not tell about itself.
        corpus: Name of the corpus, such as ravdess, planted or manifest, by default that of the run.
        root: Folder of the corpus, or path of the manifest, by default that of the run.
        options: Options of the corpus, by default those of the run.
        kinds: Kinds of degradations, such as babble, by default all.
        limit: Maximum number of clips of a corpus, drawn class by class.
        maps: Number of clips whose explanations are followed along the ladder.
        seed: Random seed of noise and draws.
        device: Where to compute, such as cpu, cuda or cuda:1.
        out: Folder of the output.

    Returns:
        The exit status.

    Raises:
        WavshapError: If the model cannot be opened, or there are fewer than two clips.
    """
    steps = ladder(kinds)
    output, names, subjects, num_asked = Output(out), [model] if audio else models_in(model), [], 0
    output.open()
    given = {"corpus": corpus, "root": root, "options": options}
    for name in names:
        classifier, share = open_model(name, device, opening), -(-limit // len(names))
        asked = _given(audio, classifier, output) if audio else _of_run(name, classifier, given, share)
        clips = [clip for clip in asked if attempt(partial(open_for, classifier), clip)[0]]
        if len(clips) < 2:
            raise SettingError(f"clips={len(clips)}: a stress test needs two or more; give more recordings")
        subjects.append(Subject(classifier, clips, -(-maps // len(names)), seed))
        num_asked += len(asked)
    found: dict[Step, Answers] = {}
    is_small = sum(one.numel() for one in subjects[0].model.parameters()) < SMALL_BACKBONE
    with progress_bars() as bar, without_progress_bars(), one_thread(when=is_small and device == "cpu"):
        on_progress = bar("Stress test")
        for step in steps:
            parts = zip(*(one.answers(*step) for one in subjects), strict=True)
            found[step] = Answers(*map(torch.cat, parts))
            on_progress(len(found), len(steps))
    clips = [clip for one in subjects for clip in one.clips]
    result = {"run": model, **Numbers(clips, subjects[0].model.outputs[0]).summary(found)}
    _write(result, output)
    return status_of(len(clips), num_asked)


def _given(audio: list[str], classifier: EmotionClassifier, output: Output) -> list[Clip]:
    """Clips of files, folders and manifests, labeled where their names follow the scheme of the training."""
    scheme = SCHEMES.get(classifier.provenance.protocol.get("corpus", ""))
    found = find_clips(audio, output.folder).values()
    return [(not clip.corpus and scheme and scheme.clip_at(clip.path)) or clip for clip in found]


def _of_run(name: str, classifier: EmotionClassifier, given: Mapping[str, Any], limit: int) -> list[Clip]:
    """Test clips of the run of a model, or of a corpus."""
    checkpoint, trained = checkpoint_of(Path(name).expanduser()), classifier.provenance.protocol
    config, data = checkpoint and checkpoint.parents[1] / "config.yaml", {"corpus": trained.get("corpus")}
    if given["corpus"] is None and config and config.is_file():  # what holds for another corpus is not known
        data |= load_yaml(read_text(config), str(config)).get("data") or {}
    data |= {key: value for key, value in given.items() if value is not None}
    if not data["corpus"]:
        raise SettingError(f"model={name} does not tell its corpus; give recordings, or --corpus and --root")
    places: dict[str, Any] = {"trained": trained, "cache_directory": default_cache_directory()}
    places["selection"] = {key: data[key] for key in ("labels", "label_map", "no_agreement") if key in data}
    root, options = data.get("root"), data.get("options") or {}
    chosen = select_clips(data["corpus"], root, options, limit=limit, **places)
    say("Clips", chosen.description)
    if chosen.warning:
        complain(chosen.warning)
    return [chosen.clips[place] for place in chosen.positions]


def _write(result: Mapping[str, Any], output: Output) -> None:
    """Print a line for each kind of degradation and each gap; write all files."""
    name, (clean, *steps) = "value" if result["score"] else "kept", result["ladder"]
    score = score_title(result["score"]) if result["score"] else "Predictions kept"
    told = f"{score} {clean[name]:.3f} of {result['clips']} clips"
    table = Table("", "unit", f"level: {score}, mild to severe", "maps", title=told)
    for kind, same in groupby(steps, itemgetter("kind", "unit")):
        rows = [*same]
        levels = "  ".join(f"{row['level']:>5g}: {row[name]:.2f}" for row in rows)
        table.add_row(*kind, levels, cell(rows[-1]["map_correlation"])[:5])
    Console().print(table)
    for gap in result["gaps"]:
        ends = f"[{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap["low"] is not None else "(no interval)"
        say(f"Gap by {gap['kind']}", f"{gap['a']} minus {gap['b']}: {gap['difference']:+.3f} {ends}")
    for note in result["notes"]:
        say("Note", note)
    with writing_to(output.folder):
        write_json(output.folder / "stress.json", result)
        write_csv(output.folder / "stress.csv", [[*clean], *(row.values() for row in result["ladder"])])
    output.write("stress.png", plot_stress(result, score))
    say("Written to", f"{on_one_line(output.folder)}: stress.json, stress.csv and stress.png")
