"""`explain.py corpus`: thousands of clips through Lightning's `Trainer.predict`, resumable."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import chain
from typing import Any, Literal

import lightning as L  # noqa: N812
from lightning.pytorch.callbacks import RichProgressBar

from wavshap_lightning import __version__
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.audio.aligner import identity
from wavshap_lightning.audio.io import hash_audio_file, load_audio
from wavshap_lightning.cli.clips import (
    ClipExplainer,
    ClipOptions,
    ModelOptions,
    attempt,
    by_stem,
    label_of,
    open_model,
    place_of,
)
from wavshap_lightning.cli.output import Output, cell, model_words, summary_row, writing_to
from wavshap_lightning.cli.terminal import EXIT_DONE, WARNED, complain, tell
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import spoken_text
from wavshap_lightning.errors import AudioError, CorpusError, SettingError
from wavshap_lightning.evaluation.summary import cue_profiles
from wavshap_lightning.evaluation.words import KINDS, clip_words, find_text_reliance, summarize_parts
from wavshap_lightning.explainer.files import load_clip
from wavshap_lightning.explainer.settings import AUTO, ExplainSettings
from wavshap_lightning.explainer.stage_attribution import fingerprint
from wavshap_lightning.files import default_cache_directory, digest_of, format_csv
from wavshap_lightning.training.corpus_run import (
    COLUMNS,
    ClipRecord,
    ClipRecords,
    CorpusRun,
    emotion_rows,
    select_clips,
)
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.cues import CUE_SOUNDS
from wavshap_lightning.viz.report.page import build_report
from wavshap_lightning.viz.report.summary import clip_shares, summarize

# A page with more is slow to open.
MAX_PAGE_CLIPS, MAX_PAGE_BYTES = 200, 60_000_000


def explain_corpus(
    model: str,
    clip: ClipOptions,
    settings: ExplainSettings,
    output: Output,
    *,
    opening: ModelOptions,
    corpus: str,
    root: str | None = None,
    options: dict[str, Any] | None = None,
    split: Literal["train", "validation", "test", "all"] = "test",
    fold: int | None = None,
    limit: int | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
) -> int:
    """Explain the clips of a corpus, with one process or many; the same command resumes.

    With several processes on a node Lightning starts this command once for each; only the first prints.

    Args:
        model: Checkpoint, run, exported folder or Hugging Face model.
        clip: What to explain about every clip.
        settings: Settings of the explanation.
        output: Files to write.
        opening: What the model does not tell about itself.
        corpus: Name of the corpus, such as ravdess, planted or manifest.
        root: Folder of the corpus, or path of the manifest.
        options: Options of the corpus, such as --options.num_speakers 24.
        split: Clips to explain, by the protocol of the model's training, else of the corpus.
        fold: Fold of the protocol, by default the model's own.
        limit: Maximum number of clips, drawn class by class.
        accelerator: Lightning's accelerator, such as cpu or gpu.
        devices: Processes on each node, by default all GPUs or one process on the CPU.
        num_nodes: Number of nodes, which must share the folder of --out.
        strategy: Lightning's strategy, such as ddp.

    Returns:
        The exit status.

    Raises:
        WavshapError: If nothing can be done.
        KeyboardInterrupt: If it was interrupted; what is finished is kept.
    """
    classifier = open_model(model, "cpu", opening)
    chosen = select_clips(
        corpus,
        root,
        options or {},
        trained=classifier.provenance.protocol,
        cache_directory=default_cache_directory(),
        split=split,
        fold=fold,
        limit=limit,
        seed=settings.seed,
    )
    every = list(by_stem(chosen.clips).items())
    clips = dict(every[position] for position in chosen.positions)
    WARNED.extend(filter(None, [chosen.warning]))  # so that every clip's file has it
    output.open()
    job = CorpusJob(ClipExplainer(classifier, settings, clip, chosen.clips), clips, output)
    trainer = _build_trainer(
        job, accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy
    )
    if trainer.is_global_zero:
        tell(f"{len(clips)} {'clip' if len(clips) == 1 else 'clips'}: {chosen.description}")
        if chosen.warning:
            complain(chosen.warning)
    _predict(trainer, job)
    trainer.strategy.barrier("every clip is explained")
    if not trainer.is_global_zero:
        return EXIT_DONE  # Lightning ends all processes where one of them fails
    num_explained = merge(job, f"Explanations of {chosen.description}", model_words(model, classifier))
    return output.conclude(num_explained, len(clips))


class CorpusJob:
    """The clips of a corpus on their way from files to records, on any process.

    Args:
        work: Explains a clip.
        clips: The clips by their stems.
        output: Files to write.
    """

    def __init__(self, work: ClipExplainer, clips: Mapping[str, Clip], output: Output) -> None:
        self.work, self.clips, self.output = work, clips, output
        self.records = ClipRecords(output.folder)
        sounds = {str(path): tensor_sha256(sound) for path, sound in work.recordings.items()}
        # Everything besides the clip that a result depends on, in plain JSON types.
        self.common = {
            "version": __version__,
            "model": fingerprint(work.classifier),
            "settings": work.explainer.settings.to_dict(),
            "options": {**asdict(work.options), "text": None, "recordings": sounds},  # it is in the words
            "output": [getattr(output, name) for name in ("figures", "sounds", "share", "waveform")],
        }

    def find_pending(self) -> list[int]:
        """Positions of the clips that are not finished, whose remaining files are removed.

        Raises:
            SettingError: If the folder cannot be written.
        """
        with writing_to(self.output.folder):
            self.records.remove_unfinished()
            pending = {stem for stem, clip in self.clips.items() if not self._is_finished(stem, clip)}
            for stem in pending:
                self.records.remove(stem)
        num_finished = len(self.clips) - len(pending)
        if num_finished:
            tell(f"{num_finished} of {len(self.clips)} clips are explained already")
        return [position for position, stem in enumerate(self.clips) if stem in pending]

    def explain(self, position: int) -> None:
        """Explain one clip, and write its files and then its record.

        Raises:
            SettingError: If the folder cannot be written.
        """
        stem, clip = list(self.clips.items())[position]
        found, reason = attempt(self.work.explain, clip)
        row = summary_row(clip, found, reason, self.work.classifier)
        row["seconds"] = ""  # two runs that agree write the same
        if found is None:
            self.output.discard(stem)
            record = ClipRecord("", row)
        else:
            self.output.write_clip(stem, found)
            view = ClipView.from_saved(found.saved, row["clip"])
            shares = clip_shares(view)
            if spoken := clip_words(found.saved.numbers, clip.speaker):
                shares = {**shares, "spoken": spoken}
            if view.cues:
                shares = {**shares, "cues": view.cues, "speaker": self.work.identified(clip).speaker}
            record = ClipRecord(self._key(clip, found.explanation.clip_sha256), row, shares)
        with writing_to(self.output.folder):
            self.records.write(stem, record)

    def _is_finished(self, stem: str, clip: Clip) -> bool:
        try:
            return self.records.is_finished(stem, self._key(clip, hash_audio_file(clip.path)))
        except AudioError:  # reported when the clip is explained
            return False

    def _key(self, clip: Clip, audio_sha256: str) -> str:
        words, aligned = self.work.alignment_of(clip), {}
        if self.work.options.alignments == AUTO:
            with suppress(CorpusError):  # reported when the clip is explained
                aligned = {"text": self.work.options.text or spoken_text(clip), **identity()}
        content = {
            "audio": audio_sha256,
            "name": place_of(clip),
            "span_s": [clip.start_s, clip.end_s],
            "label": label_of(clip),
            **{name: given for name in ("votes", "values") if (given := getattr(clip, name))},
            "evidence": [asdict(span) for span in clip.evidence],
            "words": words and sha256(words.read_bytes()).hexdigest(),
            **aligned,
            **({"voice": repr(self.work.voice_of(clip))} if self.work.options.cues else {}),
        }
        return digest_of({"clip": content, **self.common})


def _build_trainer(job: CorpusJob, **where: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's arguments
    """A trainer without logger and checkpoints."""
    return L.Trainer(
        **where,
        callbacks=[RichProgressBar(console_kwargs={"stderr": True})],
        default_root_dir=job.output.folder,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the module divides the clips
        inference_mode=False,
    )


def _predict(trainer: L.Trainer, job: CorpusJob) -> None:
    """Explain what is not finished.

    Raises:
        KeyboardInterrupt: If it was interrupted.
    """
    run = CorpusRun(job.work.classifier, list(job.clips.values()), job.find_pending, job.explain)
    try:
        trainer.predict(run, return_predictions=False)
    except SystemExit as error:  # how Lightning ends when interrupted
        if not trainer.interrupted:
            raise
        if not trainer.is_global_zero:
            raise SystemExit(EXIT_DONE) from error  # else Lightning kills the first before it can print
        num_done = sum(job.records.read(stem) is not None for stem in job.clips)
        complain(f"interrupted: {num_done} of {len(job.clips)} clips are done; the same command resumes")
        raise KeyboardInterrupt from error


def merge(job: CorpusJob, title: str, model: dict[str, str]) -> int:
    """Write `summary.csv`, `emotions.csv` and `report.html` from the records, in the order of the corpus.

    `cues.csv` is written too if cues were explained.

    Args:
        job: The job, all of whose clips are done.
        title: Title of the page.
        model: The model, in words.

    Returns:
        Number of clips that were explained.

    Raises:
        SettingError: If a record is missing, or the file cannot be written.
    """
    output, folder = job.output, job.output.folder
    records = [record for stem in job.clips if (record := job.records.read(stem)) is not None]
    if missing := len(job.clips) - len(records):
        raise SettingError(
            f"out={folder}: {missing} clips have no record; run again, all nodes in one folder"
        )
    output.write_summary([record.row for record in records])
    shares = [record.shares for record in records if record.shares is not None]
    summaries, profiles = summarize(shares), cue_profiles([one for one in shares if "cues" in one])
    output.write("emotions.csv", format_csv([COLUMNS, *emotion_rows(summaries)]))
    if profiles:
        rows = [[*profiles[0]], *([*map(cell, row.values())] for row in profiles)]
        output.write("cues.csv", format_csv(rows))
    facts = {"title": title, "model": model, "summaries": summaries, "profiles": profiles}
    facts |= _summarize_words(job, records)
    if output.report:
        count = min(len(records), MAX_PAGE_CLIPS)
        while len(page := _build_page(job, records, count, **facts).encode()) > MAX_PAGE_BYTES and count > 1:
            count = max(1, int(0.9 * count * MAX_PAGE_BYTES / len(page)))
        output.write("report.html", page)
    return len(shares)


def _summarize_words(job: CorpusJob, records: Sequence[ClipRecord]) -> dict[str, Any]:
    """Write `words.csv` and `phones.csv` where these are known; return what the page shows of them."""
    clips = [one.shares["spoken"] for one in records if one.shares is not None and "spoken" in one.shares]
    summarized = {tier: list(summarize_parts(clips, tier)) for tier in KINDS}
    for tier, parts in summarized.items():
        if parts:
            rows = [parts[0]._fields, *([*map(cell, part)] for part in parts)]
            job.output.write(f"{tier}.csv", format_csv(rows))
    if job.work.options.alignments:
        tell(f"Words are known of {len(clips)} of {len(records)} clips")
    warned = [f"Warning: {one.message}" for one in find_text_reliance(clips)]
    for message in warned:
        complain(message)
    return {"parts": [*chain.from_iterable(summarized.values())], "warned": warned}


def _build_page(job: CorpusJob, records: Sequence[ClipRecord], count: int, **facts: Any) -> str:  # noqa: ANN401
    """The page of so many clips, with facts for `build_report`."""
    clips, total, rate = list(job.clips.items()), len(records), job.work.classifier.sample_rate
    shared = os.path.commonpath([clip.path.absolute().parent for clip in job.clips.values()])
    views: list[ClipView] = []
    failed: list[tuple[str, str]] = []
    for place in (place * total // count for place in range(count)):
        stem, clip = clips[place]
        name = os.path.relpath(place_of(clip), shared)
        if records[place].shares is None:
            failed.append((name, records[place].row["reason"]))
            continue
        waveform = load_audio(clip.path, sample_rate=rate, start_s=clip.start_s, end_s=clip.end_s)
        paths = {one: job.output.folder / "sounds" / f"{stem}.{one}.wav" for one in CUE_SOUNDS}
        sounds = {one: load_audio(path, sample_rate=rate) for one, path in paths.items() if path.is_file()}
        view = ClipView.from_saved(load_clip(job.output.folder / "clips", stem), name, waveform)
        views.append(replace(view, sounds=sounds))
    note = f"These are {count} of {total} clips, evenly spaced; the summary and summary.csv are of all."
    return build_report(views, failed=failed, note=note if count < total else "", **facts)
