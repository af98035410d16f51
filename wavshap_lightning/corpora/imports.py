"""Corpora in the formats of other projects: AudioFolder, Kaldi, SpeechBrain, Lhotse, audformat, nkululeko.

A reader per format gives the rows of a table, and an adapter the cells of a row, with the audio file in the
column `file`. The steps after it find the other columns and the files and make the clips. Commands in a table
are never run, and pickles are never opened.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from warnings import warn

from yaml import YAMLError, safe_load

from wavshap_lightning.audio.io import load_native
from wavshap_lightning.corpora import manifest
from wavshap_lightning.corpora.clip import Clip, splits_named
from wavshap_lightning.corpora.folders import Layout, find_files, listed, load_folders
from wavshap_lightning.errors import CorpusError, first_line
from wavshap_lightning.files import read_text

COLUMNS: Mapping[str, str] = {
    "label": "labels?|emo|emotions?|emotionlabel|emoclass|target|category|class",
    "speaker": "speaker(id|name)?|spk|spkid|spkrid|actor(id)?",
    "split": "split(set)?|partition|subset|set",
    "text": "text|transcript(ion)?|sentence|utterance|words|wrd",
    "dialogue": "dialog(ue)?(id)?|conversation(id)?",
}
"""Known columns of each field of a clip: patterns for their names in small letters, without other signs."""

# Cells beside those of the table: its folder, and names of files and folders that may tell the split.
OWN_CELLS = (HOME, TOLD) = (" home", " split")

MALFORMED = (AttributeError, EOFError, LookupError, OSError, TypeError, ValueError, zlib.error, YAMLError)

Cells = dict[str, Any]
"""Cells of a row by column. `start` and `end` are seconds, or like 0 days 00:00:01.5; with `stop` in place of
`end`, samples are counted."""


def load_format(
    format: str,  # noqa: A002 - the option's name
    root: Path | str,
    *,
    label: str | None = None,
    speaker: str | None = None,
    split: str | None = None,
    text: str | None = None,
    dialogue: str | None = None,
    audio_root: str | None = None,
) -> list[Clip]:
    """The clips that the tables of another project list, in the order of the rows.

    Rows without a label are left out with a warning, unless there is no label at all but numbers in columns
    named after `DIMENSIONS`, which are values. Splits are those of the column, else those that names of
    tables and folders tell, if they tell at least two.

    Args:
        format: One of `FORMATS`.
        root: The table, or a folder that holds tables.
        label: Column of the label; by default the one with a known name.
        speaker: Column of the speaker; an empty name for none.
        split: Column of the split; an empty name for none.
        text: Column of the spoken text; an empty name for none.
        dialogue: Column of the dialogue; an empty name for none.
        audio_root: Folder at which the paths in the table start. By default it is the table's folder or one
            of the three above it; paths from another machine are found there by their end.

    Raises:
        CorpusError: If the format is unknown, a table is missing or malformed, a column is missing or
            ambiguous, a cell cannot be used, an audio file does not exist, or two rows are the same clip.
    """
    if format not in FORMATS:
        raise CorpusError(f"format={format!r} must be one of {', '.join(FORMATS)}")
    layout, names, *_ = FORMATS[format]
    source = Path(root).expanduser()
    tables = [source] if source.is_file() else find_files(layout.checked_folder(source))
    tables = [table for table in tables if table == source or re.fullmatch(names, table.name.lower())]
    given = {"label": label, "speaker": speaker, "split": split, "text": text, "dialogue": dialogue}
    if not tables and format == "audiofolder" and not any(given.values()):
        return load_folders(root)
    rows = {place: cells for table in tables for place, cells in _read(format, table, source)}
    found = list(dict.fromkeys(name for cells in rows.values() for name in cells if name not in OWN_CELLS))
    columns = {field: _find_column(field, found, name) for field, name in given.items()}
    if not columns["label"]:
        what = f"its columns {found} have no known label; name it: label=COLUMN"
        if not any(map(_values, rows.values())):
            raise layout.error(root, what)
        warn(f"{what}, or learn its values alone", stacklevel=2)
    elif unlabeled := [place for place in rows if columns["label"] not in rows[place]]:
        what = f"{len(unlabeled)} of {len(rows)} rows have no label and are left out"
        warn(f"{what} ({listed(unlabeled)})", stacklevel=2)
        rows = {place: cells for place, cells in rows.items() if columns["label"] in cells}
    files = _find_audio([*rows.values()], audio_root)
    splits = _find_splits([*rows.values()], columns.pop("split") or (TOLD if split is None else ""))
    clips = {
        place: _to_clip(place, cells, columns, {"path": str(file), "corpus": format, "split": split})
        for (place, cells), file, split in zip(rows.items(), files, splits, strict=True)
    }
    manifest.check_distinct(source, clips)
    return list(clips.values())


def _read(format: str, table: Path, source: Path) -> Iterator[tuple[str, Cells]]:  # noqa: A002 - as above
    """Place and filled cells of each row of a table below the source."""
    layout, _, read, adapt = FORMATS[format]
    place = str(table)
    try:
        for name, row in read(table).items():
            place = f"{table} {name}"
            cells = _filled(adapt(row))
            told = f"{Path(cells['file']).parent} {table.relative_to(source)}"
            yield place, cells | {HOME: table.parent, TOLD: told}
    except MALFORMED as error:
        what = f"cannot be read as {format} ({type(error).__name__}: {first_line(error)})"
        raise CorpusError(f"table={place} {what}; expected {layout.example}") from error


def _filled(cells: Cells) -> Cells:
    empty = {"", "NaT", "nan"}
    return {name: cell for name, cell in cells.items() if cell is not None and str(cell).strip() not in empty}


# Readers and adapters


def _read_rows(path: Path, required: Sequence[str] = ()) -> dict[str, Cells]:
    """Rows of CSV, Parquet or JSON Lines, or of a JSON object."""
    if path.suffix.lower() == ".parquet":
        rows = _read_parquet(path)
    elif path.suffix.lower() in {".csv", ".tsv"}:
        rows = manifest.read_table(path, required=required)
    elif path.suffix.lower() == ".json":
        return {**json.loads(read_text(path), object_pairs_hook=_distinct)}
    else:
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else read_text(path)
        lines = enumerate(text.split("\n"), start=1)
        rows = {number: json.loads(line) for number, line in lines if line.strip()}
    return {f"line {number}": row for number, row in rows.items()}


def _read_parquet(path: Path) -> dict[int, Cells]:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CorpusError(f"table={path}: pip install 'wavshap-lightning[parquet]' first") from error
    return dict(enumerate(parquet.read_table(path).to_pylist(), start=1))


def _distinct(pairs: Collection[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _of_hub(row: Cells) -> Cells:
    return row | {"file": next((row[name] for name in row if re.fullmatch("(.+_)?file_name", name)), None)}


def _read_kaldi(path: Path) -> dict[str, Cells]:
    maps = {
        file.name: _distinct(_FIRST_WORD_AND_REST.findall(read_text(file)))
        for file in sorted(path.parent.iterdir())
        if file == path or re.fullmatch(r"utt2\w+|segments|text|emotion|label", file.name)
    }
    sounds = maps.pop(path.name)
    segments = maps.pop("segments", {name: f"{name} 0 -1" for name in sounds})
    known = {name for name, segment in segments.items() if segment.split()[0] in sounds}
    if strangers := sorted({*segments}.union(*maps.values()) - known):
        what = f"{len(strangers)} names without a recording ({listed(strangers)})"
        raise ValueError(f"{what}; run utils/fix_data_dir.sh")
    rows = {}
    for name, segment in segments.items():
        recording, start, end = segment.split()
        file = _COPYING.sub(r"\1", sounds[recording])
        if re.search(r"\|$|\.ark:\d+$", file):
            refused = "commands are not run, and archives not opened"
            raise ValueError(f"{recording} is {file!r}; {refused}: save the sound and name its file")
        cells = {column: its.get(name) for column, its in maps.items()}
        rows[name] = cells | {"file": file, "start": start, "end": None if float(end) == -1 else end}
    return rows


def _of_speechbrain(row: Cells) -> Cells:
    span = dict(re.findall(r"(start|stop):(\d+)", str(row.get("wav_opts"))))
    return row | span | (row["wav"] if isinstance(row["wav"], dict) else {"file": row["wav"]})


def _of_lhotse(cut: Cells) -> Cells:
    recording, (supervision, *others) = cut["recording"], cut["supervisions"] or [{}]
    (source,) = recording["sources"]
    kinds = (cut["type"], source["type"], len(recording.get("channel_ids", [0])))
    if kinds != ("MonoCut", "file", 1) or others or recording.get("transforms"):
        raise ValueError(f"{cut['id']} is changed or mixed; call save_audios or trim_to_supervisions")
    end = round(cut["start"] + cut["duration"], 6)
    is_last = end > recording.get("duration", end) - 1e-4  # rounding would miss the last samples
    span = {"start": cut["start"], "end": None if is_last else end, "file": source["source"]}
    return (cut.get("custom") or {}) | supervision | (supervision.get("custom") or {}) | span


def _read_audformat(path: Path) -> dict[str, Cells]:
    header = safe_load(read_text(path))
    merged: dict[tuple[str, ...], Cells] = {}
    told = splits_named(header["tables"])  # such as emotion.categories.train.gold_standard
    for name, about in header["tables"].items():
        files = [path.with_name(f"{path.stem}.{name}{suffix}") for suffix in (".csv", ".parquet")]
        table = next(filter(Path.is_file, files), None)
        if table is None:
            raise ValueError(f"{files[0].name} is missing, and pickles are not opened; save it as CSV")
        for place, row in _read_rows(table).items():
            cells = _filled({"split": about.get("split_id") or told[name]} | row)
            known = merged.setdefault(tuple(str(cells.pop(one, "")) for one in ("file", "start", "end")), {})
            if clash := [column for column, cell in cells.items() if known.setdefault(column, cell) != cell]:
                raise ValueError(f"{table.name} {place} differs from an earlier table in {clash}; drop one")
    segmented = {file for file, *times in merged if any(times)}
    return {
        f"{file} {start} {end}": merged.get((file, "", ""), {}) | cells | span
        for (file, start, end), cells in merged.items()
        for span in [{"file": file, "start": start, "end": end}]
        if start or end or file not in segmented  # else its cells belong to each of its segments
    }


_NUMBER = re.compile(r"-?\d+(\.\d*)?")
_FIRST_WORD_AND_REST = re.compile(r"^[ \t]*(\S+)[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)
# The commands that only copy a file, or decode one of a format that is read here: the file is taken.
_COPYING = re.compile(r"^(?:\S*/)?(?:cat|flac(?:\s+-[cds]+)+|sph2pipe(?:\s+-f\s+wav|\s+-p)+)\s+(\S+)\s*\|$")
# A variable for the folder of the recordings, such as {data_root}/ or $data_folder/.
_PLACEHOLDER = re.compile(r"^(?:\{\w+\}|\$\{?\w+\}?)[/\\]")

FORMATS: Mapping[str, tuple[Layout, str, Callable[[Path], dict[str, Cells]], Callable[[Cells], Cells]]] = {
    name: (Layout(name, example, homepage=""), tables, read, adapt)
    for name, example, tables, read, adapt in (
        ("audiofolder", "metadata.csv: file_name", r".*metadata.*(csv|jsonl|parquet)", _read_rows, _of_hub),
        ("kaldi", "train/wav.scp with utt2spk and utt2emo", r"wav\.scp", _read_kaldi, dict),
        ("speechbrain", 'train.json: {"ID": {"wav": ...}}', r".+\.(json|csv)", _read_rows, _of_speechbrain),
        ("lhotse", "cuts_train.jsonl.gz", r".*cuts.*\.jsonl(\.gz)?", _read_rows, _of_lhotse),
        ("audformat", "db.yaml with db.emotion.csv", r"db\.yaml", _read_audformat, dict),
        ("nkululeko", "train.csv: file, emotion", r".+\.csv", partial(_read_rows, required=["file"]), dict),
    )
}
"""Layout, pattern for the names of tables in small letters, reader of a table, adapter of a row."""


# From rows to clips


def _find_column(field: str, names: Sequence[str], given: str | None) -> str:
    """The column of a field of a clip, empty if there is none."""
    known = [one for one in names if re.fullmatch(COLUMNS[field], re.sub(r"[\W_]|^utt2", "", one.lower()))]
    found = known if given is None else [given] if given else []
    if len(found) > 1 or not {*found} <= {*names}:
        what = f"{field}={' or '.join(found)} must be one of the columns {names}"
        raise CorpusError(f"{what}; name it: {field}=COLUMN, or an empty name for none")
    return found[0] if found else ""


def _find_splits(rows: Sequence[Cells], column: str) -> list[str | None]:
    """The split of each row, or what its cell says instead, which a clip refuses."""
    stated = [str(cells.get(column, "")) for cells in rows]
    splits = splits_named(stated)
    if column == TOLD and len({*splits.values()} - {None}) < 2:
        return [None] * len(rows)  # a training set alone is no division
    return [splits[words] or words or None for words in stated]


def _find_audio(rows: Sequence[Cells], audio_root: str | None) -> list[Path]:
    """The audio file of each row.

    All paths start equally far above their tables. From another machine, they lack equally many folders.
    """
    paths = [Path(_PLACEHOLDER.sub("", str(cells["file"]).replace("\\", "/"))) for cells in rows]
    homes = [Path(audio_root or cells[HOME]).expanduser().absolute() for cells in rows]
    starts = [*zip(*([home, *home.parents][: 1 if audio_root else 4] for home in homes), strict=False)]
    listings: manifest.Listings = {}
    for cut, above in product(range(max(len(path.parts) for path in paths)), starts):
        meant = [start.joinpath(*path.parts[cut:]) for start, path in zip(above, paths, strict=True)]
        files = [manifest.find_file(path, listings) or path for path in meant]
        is_distinct = len({*files}) >= len({*paths})  # else a/1.wav and b/1.wav would be one file
        there = [is_distinct and file.is_file() for file in files]
        if any(there):
            break
    if missing := [path for path, is_there in zip(paths, there, strict=True) if not is_there]:
        what = f"{len(missing)} of {len(rows)} audio files do not exist ({listed(missing)}) beside {homes[0]}"
        raise CorpusError(f"{what}; name the folder at which paths start: audio_root=DIR")
    if cut and audio_root is None:
        warn(f"paths are taken to start elsewhere: {files[0]} for {paths[0]}", stacklevel=3)
    return files


def _values(cells: Cells) -> Cells:
    """The numbers in columns named after `DIMENSIONS`."""
    return {name: cells[name] for name in manifest.DIMENSIONS if _NUMBER.fullmatch(str(cells.get(name)))}


def _to_clip(place: str, cells: Cells, columns: Mapping[str, str], known: dict[str, Any]) -> Clip:
    named = {field: cells[column] for field, column in columns.items() if column in cells}
    try:
        start_s, end_s = _find_span(cells, Path(known["path"]))
        known |= {**named, **_values(cells), "start_s": start_s, "end_s": end_s}
        return manifest.to_clip(known, Path(), {}, manifest.REQUIRED if columns["label"] else ["path"])
    except (CorpusError, ValueError) as error:
        raise CorpusError(f"{place}: {error} (columns: {columns}; an empty name for none)") from error


def _find_span(cells: Cells, file: Path) -> tuple[float | None, float | None]:
    """Start and end in seconds, None where the file's are meant."""
    if "stop" in cells:
        rate = load_native(file, end_s=0.01)[1]
        return int(str(cells.get("start", 0))) / rate, int(str(cells["stop"])) / rate
    start, end = (_seconds(cells[name]) if name in cells else None for name in ("start", "end"))
    return start or None, end


def _seconds(cell: object) -> float:
    """Seconds of a number, or of a time such as 0 days 00:00:01.5."""
    parts = re.split(r" days?,? |:", str(cell))
    return sum(float(part) * unit for part, unit in zip(reversed(parts), (1, 60, 3600, 86_400), strict=False))
