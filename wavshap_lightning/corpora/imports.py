"""Corpora in the formats of other projects: AudioFolder, Kaldi, SpeechBrain, Lhotse, audformat, nkululeko.

A reader per format gives the rows of one table: cells by column, with the audio file as the table states it.
A shared step finds the columns and the files, and makes the clips. Commands inside a table are never run, and
pickles are never opened.
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
from wavshap_lightning.corpora.clip import Clip, splits_named
from wavshap_lightning.corpora.folders import Layout, find_files, listed, load_folders
from wavshap_lightning.corpora.manifest import Listings, check_distinct, find_file, read_table, to_clip
from wavshap_lightning.errors import CorpusError, first_line

COLUMNS: Mapping[str, str] = {
    "label": "labels?|emo|emotions?|emotionlabel|emoclass|target|category|class",
    "speaker": "speaker(id|name)?|spk|spkid|spkrid|actor(id)?",
    "split": "split(set)?|partition|subset|set",
    "text": "text|transcript(ion)?|sentence|utterance|words|wrd",
    "dialogue": "dialog(ue)?(id)?|conversation(id)?",
}
"""Known columns of each field of a clip: patterns for their names in small letters, without other signs."""

# Cells that a row has beside the columns of its table: the audio file as stated, the folder of the table, and
# the split that the names of files and folders tell.
OWN_CELLS = (FILE, HOME, TOLD) = (" file", " home", " split")

MALFORMED = (AttributeError, EOFError, LookupError, OSError, TypeError, ValueError, zlib.error, YAMLError)

Rows = dict[str, dict[str, Any]]
"""Cells by column, by the line or name of each row. `start` and `end` are seconds, or like 0 days 00:00:01.5;
with `stop` in place of `end`, whole numbers count samples."""


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

    Rows without a label are left out with a warning. Splits are those of the column, else those that names of
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
    layout, names, _ = FORMATS[format]
    source = Path(root).expanduser()
    tables = {source: ""} if source.is_file() else _find_tables(layout.checked_folder(source), names)
    given = {"label": label, "speaker": speaker, "split": split, "text": text, "dialogue": dialogue}
    if not tables and format == "audiofolder" and not any(given.values()):
        return load_folders(root)
    rows = {place: cells for table, told in tables.items() for place, cells in _read(format, table, told)}
    found = list(dict.fromkeys(name for cells in rows.values() for name in cells if name not in OWN_CELLS))
    columns = {field: _find_column(field, found, name) for field, name in given.items()}
    if not columns["label"]:
        raise layout.error(root, f"its columns {found} have no known label; name it: label=COLUMN")
    if unlabeled := [place for place in rows if columns["label"] not in rows[place]]:
        what = f"{len(unlabeled)} of {len(rows)} rows have no label and are left out"
        warn(f"{what} ({listed(unlabeled)})", stacklevel=2)
    rows = {place: cells for place, cells in rows.items() if columns["label"] in cells}
    teller = columns.pop("split") or (TOLD if split is None else "")
    splits = splits_named({str(cells.get(teller)) for cells in rows.values()})
    if teller == TOLD and (None in splits.values() or len({*splits.values()}) < 2):
        teller = ""  # a training set alone is no division
    placed = zip(rows.items(), _find_audio([*rows.values()], audio_root), strict=True)
    clips = {
        place: _to_clip(place, cells, columns, {"path": str(file), "corpus": format, "split": split})
        for (place, cells), file in placed
        for told in [cells.get(teller)]
        for split in [told and (splits[str(told)] or told)]
    }
    check_distinct(source, clips)
    return list(clips.values())


def _find_tables(folder: Path, names: str) -> dict[Path, str]:
    """The tables below a folder, each with its path below it if that tells a split."""
    found = [path for path in find_files(folder) if re.fullmatch(names, path.name.lower())]
    below = {path: str(path.relative_to(folder).with_suffix("")) for path in found}
    splits = splits_named(below.values())
    named = {path: name for path, name in below.items() if splits[name]}
    if len({*splits.values()} - {None}) < 2 or len(named) == len(found):
        return dict.fromkeys(found, "") | named
    others = listed(path for path in found if path not in named)  # data/all repeats data/train and data/test
    warn(f"root={folder}: left out tables that name no split, beside those that do ({others})", stacklevel=3)
    return named


def _read(format: str, table: Path, told: str) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: A002 - as above
    """Place and filled cells of each row of a table."""
    layout, _, read = FORMATS[format]
    try:
        rows = read(table)
    except MALFORMED as error:
        what = f"cannot be read as {format} ({type(error).__name__}: {first_line(error)})"
        raise CorpusError(f"table={table} {what}; it is damaged, or not like {layout.example}") from error
    if missing := [name for name, cells in rows.items() if not _is_filled(cells.get(FILE))]:
        raise CorpusError(f"table={table}: no audio file in {listed(missing)}; expected {layout.example}")
    for name, cells in rows.items():
        own = {HOME: table.parent, TOLD: told or str(Path(str(cells[FILE])).parent)}
        yield (
            f"{table} {name}",
            {key: cell for key, cell in (own | cells).items() if key and _is_filled(cell)},
        )


def _is_filled(cell: object) -> bool:
    return cell is not None and str(cell).strip() not in {"", "NaT", "nan"}


# Readers


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")


def _distinct(pairs: Collection[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _read_cells(path: Path, required: Sequence[str] = ()) -> Rows:
    """Rows of CSV, JSON Lines or Parquet."""
    if path.suffix.lower() == ".parquet":
        try:
            from pyarrow import duration, parquet, schema, types  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise CorpusError(f"table={path}: pip install 'wavshap-lightning[parquet]' first") from error
        table = parquet.read_table(path)
        fields = [f.with_type(duration("us")) if types.is_duration(f.type) else f for f in table.schema]
        rows = dict(enumerate(table.cast(schema(fields), safe=False).to_pylist(), start=1))
    else:
        rows = read_table(path, required=required)
    for cells in rows.values():
        cells[FILE] = next((cells[name] for name in cells if re.fullmatch(FILE_COLUMN, name)), None)
    return {f"line {line}": cells for line, cells in rows.items()}


def _read_kaldi(path: Path) -> Rows:
    maps = {
        file.name: _distinct(_FIRST_WORD_AND_REST.findall(_read_text(file)))
        for file in sorted(path.parent.iterdir())
        if file == path or re.fullmatch(r"utt2\w+|spk2utt|segments|text|emotion|label", file.name)
    }
    sounds, speakers = maps.pop(path.name), maps.pop("spk2utt", {})
    maps.setdefault("utt2spk", {name: who for who, names in speakers.items() for name in names.split()})
    segments = maps.pop("segments", {name: f"{name} 0 -1" for name in sounds})
    known = {name for name, segment in segments.items() if segment.split()[0] in sounds}
    if strangers := sorted({*segments}.union(*maps.values()) - known):
        what = f"{len(strangers)} names without a recording ({listed(strangers)})"
        raise CorpusError(f"table={path}: {what}; run utils/fix_data_dir.sh")
    rows: Rows = {}
    for name, segment in segments.items():
        recording, start, end = segment.split()
        stated = sounds[recording]
        copied = _COPYING.fullmatch(" ".join(stated.split()))
        if not copied and re.search(r"\|$|\.ark:\d+$", stated):
            remedy = "commands are not run, and archives not opened: save the sound and name its file"
            raise CorpusError(f"table={path}: {recording} is {stated!r}; {remedy}")
        cells = {column: its.get(name) for column, its in maps.items()}
        rows[name] = cells | {FILE: copied[1] if copied else stated, "start": start, "end": end}
    return rows


def _read_speechbrain(path: Path) -> Rows:
    is_json = path.suffix.lower() == ".json"
    rows = json.loads(_read_text(path), object_pairs_hook=_distinct) if is_json else _read_cells(path)
    for cells in rows.values():
        sound = cells["wav"] if isinstance(cells["wav"], dict) else {"file": cells["wav"]}
        span = dict(re.findall(r"(start|stop):(\d+)", str(cells.get("wav_opts"))))
        cells |= {**span, **sound, FILE: sound["file"]}
    return rows


def _read_lhotse(path: Path) -> Rows:
    text = _read_text(path).strip()
    lines = (line for line in text.split("\n") if line.strip())
    cuts = json.loads(text if text.startswith("[") else "[" + ",\n".join(lines) + "]")
    rows: Rows = {}
    for number, cut in enumerate(cuts, start=1):
        recording, supervisions = cut.get("recording") or {}, cut.get("supervisions") or [{}]
        kinds = [source["type"] for source in recording.get("sources") or []]
        changes = [one["name"] for one in recording.get("transforms") or [] if one["name"] != "Resample"]
        channels = recording.get("channel_ids") or [0]
        found = (cut.get("type"), kinds, len(channels), changes, len(supervisions))
        if found != ("MonoCut", ["file"], 1, [], 1):
            what = f"type, sources, channels, transforms and supervisions are {found}; call save_audios or"
            raise CorpusError(f"table={path} cut={cut.get('id')!r}: {what} trim_to_supervisions")
        end = round(cut["start"] + cut["duration"], 6)
        at_end = end > recording.get("duration", end) - 1e-4  # rounding would miss the last samples
        span = {
            "start": cut["start"],
            "end": None if at_end else end,
            FILE: recording["sources"][0]["source"],
        }
        about = (cut.get("custom") or {}) | supervisions[0] | (supervisions[0].get("custom") or {})
        rows[f"cut {number}"] = about | span
    return rows


def _read_audformat(path: Path) -> Rows:
    header = safe_load(_read_text(path))
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for name, about in header["tables"].items():
        files = [path.with_name(f"{path.stem}.{name}{suffix}") for suffix in (".csv", ".parquet")]
        table = next(filter(Path.is_file, files), None)
        if table is None:
            raise CorpusError(f"table={files[0]} is missing, and pickles are not opened; save it as CSV")
        split = about.get("split_id")
        words = f"{name} {split} {(header.get('splits') or {}).get(split, {}).get('type')}"
        (told,) = splits_named([words]).values()
        for place, cells in _read_cells(table, ["file"]).items():
            key = tuple(str(cells.pop(column, None) or "") for column in ("file", "start", "end"))
            known = merged.setdefault(key, {})
            filled = {column: cell for column, cell in (cells | {TOLD: told}).items() if _is_filled(cell)}
            if clash := [name for name, cell in filled.items() if known.setdefault(name, cell) != cell]:
                raise CorpusError(
                    f"table={table} {place}: an earlier table differs in {clash}; drop one of the two"
                )
    segmented = {file for file, *times in merged if any(times)}
    return {
        f"{file} {start} {end}": merged.get((file, "", ""), {}) | cells | {"start": start, "end": end}
        for (file, start, end), cells in merged.items()
        if start or end or file not in segmented  # else its cells belong to each of its segments
    }


FILE_COLUMN = "(.+_)?file_name|file|wav"
_FIRST_WORD_AND_REST = re.compile(r"^[ \t]*(\S+)[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)
# The commands that only copy a file, or decode one of a format that is read here: the file is taken.
_COPYING = re.compile(r"(?:\S*/)?(?:cat|flac(?: -[cds]+)+|sph2pipe(?: -f wav| -p)+) (\S+) \|")
# A variable for the folder of the recordings, such as {data_root}/ or $data_folder/.
_PLACEHOLDER = re.compile(r"^(?:\{\w+\}|\$\{?\w+\}?)[/\\]")

FORMATS: Mapping[str, tuple[Layout, str, Callable[[Path], Rows]]] = {
    name: (Layout(name, example, homepage=""), tables, read)
    for name, example, tables, read in (
        ("audiofolder", "metadata.csv with file_name", r".*metadata.*\.(csv|jsonl|parquet)", _read_cells),
        ("kaldi", "train/wav.scp with utt2spk and utt2emo", r"wav\.scp", _read_kaldi),
        ("speechbrain", 'train.json: {"ID": {"wav": ..., "emo": ...}}', r".+\.(json|csv)", _read_speechbrain),
        ("lhotse", "cuts_train.jsonl.gz", r".*cuts.*\.jsonl?(\.gz)?", _read_lhotse),
        ("audformat", "db.yaml with db.emotion.csv", r"db\.yaml", _read_audformat),
        ("nkululeko", "train.csv with file and emotion", r".+\.csv", partial(_read_cells, required=["file"])),
    )
}
"""Layout, pattern for the names of tables in small letters, and reader of one table, of every format."""


# From rows to clips


def _find_column(field: str, names: Sequence[str], given: str | None) -> str:
    """The column of a field of a clip, empty if there is none."""
    known = [one for one in names if re.fullmatch(COLUMNS[field], re.sub(r"[\W_]|^utt2", "", one.lower()))]
    found = known if given is None else [given] if given else []
    if len(found) > 1 or not {*found} <= {*names}:
        what = f"{field}={' or '.join(found)} must be one of the columns {names}"
        raise CorpusError(f"{what}; name it: {field}=COLUMN, or an empty name for none")
    return found[0] if found else ""


def _find_audio(rows: Sequence[Mapping[str, Any]], audio_root: str | None) -> list[Path]:
    """The audio file of each row.

    All paths start equally far above their tables. From another machine, they lack equally many folders.
    """
    paths = [Path(_PLACEHOLDER.sub("", str(cells[FILE]).replace("\\", "/"))) for cells in rows]
    homes = [Path(audio_root or cells[HOME]).expanduser().absolute() for cells in rows]
    missing, listings = paths, Listings()
    for cut, up in product(range(max(len(path.parts) for path in paths)), range(1 if audio_root else 4)):
        starts = (([home, *home.parents] * 4)[up] for home in homes)
        meant = [start.joinpath(*path.parts[cut:]) for start, path in zip(starts, paths, strict=True)]
        files = [find_file(path, listings) or path for path in meant]
        is_distinct = len({*files}) >= len({*paths})  # else a/1.wav and b/1.wav would be one file
        found = [is_distinct and file.is_file() for file in files]
        if all(found):
            if cut and audio_root is None:
                warn(f"paths are taken to start elsewhere: {files[0]} for {paths[0]}", stacklevel=3)
            return files
        if any(found):
            missing = [path for path, is_there in zip(paths, found, strict=True) if not is_there]
            break
    what = f"{len(missing)} of {len(rows)} audio files do not exist ({listed(missing)}) beside {homes[0]}"
    raise CorpusError(f"{what}; name the folder at which paths start: audio_root=DIR")


def _to_clip(place: str, cells: Mapping[str, Any], columns: Mapping[str, str], known: dict[str, Any]) -> Clip:
    named = {field: cells[column] for field, column in columns.items() if column in cells}
    try:
        start_s, end_s = _find_span(cells, Path(known["path"]))
        return to_clip({**known, **named, "start_s": start_s, "end_s": end_s}, Path(), {})
    except (CorpusError, ValueError) as error:
        raise CorpusError(f"{place}: {error} (columns: {columns}; an empty name for none)") from error


def _find_span(cells: Mapping[str, Any], file: Path) -> tuple[float | None, float | None]:
    """Start and end in seconds, None where the file's are meant."""
    times = {name: _seconds(cells[name]) for name in ("start", "end", "stop") if name in cells}
    start, end = times.get("start", 0.0), times.get("stop", times.get("end", -1.0))
    if "stop" in times and not any("." in str(cells.get(name)) for name in ("start", "stop")):
        rate = load_native(file, end_s=0.01)[1]
        start, end = start / rate, end / rate
    return (start or None, None) if end == -1.0 else (start, end)


def _seconds(cell: object) -> float:
    """Seconds of a number, or of a time such as 0 days 00:00:01.5."""
    *days, clock = str(cell).split()
    seconds = sum(float(part) * 60**place for place, part in enumerate(reversed(clock.split(":"))))
    return seconds + 86_400 * float(days[0] if days else 0)
