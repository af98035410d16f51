"""Exporting a classifier: what is trained, a record of the rest, and a page for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from os import PathLike
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.errors import CheckpointError, CorpusError, ModelError, SettingError
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.checkpoint import (
    ClassifierRecord,
    describe_classifier,
    restore_classifier,
    trained_state,
)
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.record import own_scores

if TYPE_CHECKING:
    from wavshap_lightning.models.classifier import EmotionClassifier


TITLES = {
    "uar": "UAR (recall averaged over classes)",
    "wa": "WA (accuracy)",
    "macro_f1": "macro F1",
    "ece": "ECE (calibration error)",
}
METRICS = {"uar": "recall", "wa": "accuracy", "macro_f1": "f1"}
YOURS = "yours"
MAX_NAMED = 12
UNKNOWN = "not known"
INTERVALS = (
    "Intervals come from resampling the speakers that judge: they say how a number varies with them, and "
    "nothing of other recordings."
)
SYNTHETIC = (
    "Corpus: PlantedSpeech, synthetic clips that wavshap-lightning makes. Their classes are decided by "
    "planted cues and named like emotions; no person's emotion is in them. Nobody else has rights in it."
)
PLANTED_IN = "planted-in-"
CUES_IN_SPEECH = (
    "Classes are decided by cues that wavshap-lightning planted in recordings and named like emotions; what "
    "these were labelled was left aside. The recordings:"
)
MADE_WITH = (
    "Made with wavshap-lightning, which also shows what in a recording a decision comes from: when, in which "
    "band, in which layer."
)


def write_card(record: ClassifierRecord, *, title: str, licence: str | None, place: str) -> str:
    """The page as Markdown, with front matter for the Hub.

    Args:
        record: Of the classifier.
        title: What it is called.
        licence: The Hub's short name of its licence.
        place: Where it is opened from.
    """
    sections = [
        f"# {_plain(title)}",
        f"Tells {_listed(record.labels)} in recordings of speech. {MADE_WITH}",
        *_section("Use", _use(place)),
        *_section("What it is", _table(("", ""), _facts(record))),
        *_section("How it was trained", _training(record)),
        *_section("How good it is", _scores(record)),
        *_section("Limits", _limits(record)),
    ]
    return f"---\n{_front_matter(record, title, licence)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(record: ClassifierRecord, title: str, licence: str | None) -> str:
    corpus = record.protocol.get("corpus")
    results = list(_results(record, str(corpus)))
    local = "/" not in record.backbone.name or record.backbone.name.startswith(("/", "~", "."))
    data = ModelCardData(
        license=licence,
        library_name="wavshap-lightning",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "explainability"],
        base_model=None if local else record.backbone.name,
        model_name=title if results else None,
        eval_results=results or None,
        labels=list(record.labels),
    )
    return data.to_yaml()


def _results(record: ClassifierRecord, corpus: str) -> Iterator[EvalResult]:
    test = record.scores.get("test", {})
    for name, metric in METRICS.items():
        if name in test:
            yield EvalResult(
                task_type="audio-classification",
                dataset_type=corpus,
                dataset_name=corpus,
                dataset_split="test",
                metric_type=metric,
                metric_name=TITLES[name],
                metric_value=round(float(test[name]), 4),
            )


def _use(place: str) -> str:
    return (
        "```python\n"
        "from wavshap_lightning import explain, load_classifier, plot\n\n"
        f"classifier = load_classifier({place!r})\n"
        'found = explain(classifier, "clip.wav")  # what it predicts, and why\n'
        'plot(found).savefig("clip.png")\n'
        "```\n\n"
        f"Or, without Python: {_code(f'python explain.py {quote(place)} clip.wav')}. The backbone is not "
        "part of these files; it is found by its name, and its fingerprint is checked."
    )


def _facts(record: ClassifierRecord) -> Iterator[tuple[str, str]]:
    head, backbone = record.head, record.backbone
    revision = f" at revision {_code(backbone.revision)}" if backbone.revision else ""
    hidden = "linear" if head.hidden_size == 0 else f"one hidden layer of {head.hidden_size}"
    yield "classes", _listed(record.labels)
    yield "input", f"waveform at {record.sample_rate} Hz"
    yield "backbone", f"{_code(backbone.name)}{revision}, {_trained_part(record)}"
    yield "its fingerprint", _code(record.backbone_fingerprint[:16])
    yield "head", f"layers: {head.layer}; pooling: {head.pooling}; {hidden}"
    if record.versions:
        yield "trained with", ", ".join(f"{_plain(n)} {_plain(v)}" for n, v in record.versions.items())


def _trained_part(record: ClassifierRecord) -> str:
    settings = record.backbone
    layers = f"its last {settings.unfreeze_layers} layers trained" if settings.unfreeze_layers else ""
    adapters = f"adapters of rank {settings.lora_rank} trained" if settings.lora_rank else ""
    return " and ".join(filter(None, (layers, adapters))) or "as it is there"


def _training(record: ClassifierRecord) -> str:
    protocol = record.protocol
    if not protocol:
        return "Not known: nothing of it was recorded where this classifier comes from."
    return "\n\n".join((_corpus(str(protocol.get("corpus"))), _split(protocol)))


def _corpus(name: str) -> str:
    if name.startswith(PLANTED_IN):
        return f"{CUES_IN_SPEECH} {_corpus(name.removeprefix(PLANTED_IN))}"
    try:
        corpus = corpus_named(name)
    except CorpusError:
        corpus = None
    if name == "planted":
        return SYNTHETIC
    if corpus is None or corpus.licence == YOURS:
        return f"Corpus: {_plain(name)}. Its licence is known to those who recorded it."
    return (
        f"Corpus: {_plain(name)} ({_plain(corpus.homepage)}). Its licence: **{_plain(corpus.licence)}**. "
        "Whether it binds a model trained on it is for its terms to say."
    )


def _split(protocol: Mapping[str, Any]) -> str:
    fold = protocol["folds"][protocol["fold"]]
    clips = protocol.get("clips", {})
    counts = ", ".join(f"{clips[part]} clips for {use}" for part, use in USES.items() if clips.get(part))
    return (
        f"Protocol: {_plain(protocol['name'])} (hash {_code(str(protocol.get('hash', ''))[:12])}), fold "
        f"{protocol['fold'] + 1} of {len(protocol['folds'])}: {counts}. {_meaning(protocol, fold)}"
    )


USES = {"train": "training", "validation": "choosing the epoch", "test": "judging"}


def _meaning(protocol: Mapping[str, Any], fold: Mapping[str, Any]) -> str:
    if protocol["unit"] == "clip":
        return (
            "Clips were divided at random, so that the voices that judge have also trained: the scores are "
            "too high for voices never heard."
        )
    if protocol["unit"] == "split":
        return "The parts are those that come with the corpus."
    chosen = "" if fold["validation"] else " No clip chose the epoch: training ran to its end."
    shared = " Those who chose the epoch have trained too, with other texts." * protocol["shared_validation"]
    return f"Judged by speakers that have not trained: {_listed(fold['test'])}.{shared}{chosen}"


def _scores(record: ClassifierRecord) -> str:
    rows = [row for name in TITLES for row in _score_rows(record.scores, name)]
    if not rows:
        return "Not known: no test was recorded."
    table = _table(("", "value", "95 % interval", "of"), rows)
    note = f"{INTERVALS} " if any(interval != UNKNOWN for _, _, interval, _ in rows) else ""
    return f"{table}\n\n{note}Chance is a UAR of {1 / len(record.labels):.3f}."


def _score_rows(scores: Mapping[str, Mapping[str, Any]], name: str) -> Iterator[tuple[str, str, str, str]]:
    test, folds = scores.get("test", {}), scores.get("cross_validation", {})
    if name in test:
        yield TITLES[name], f"{test[name]:.3f}", _interval(test, name), "this classifier, test clips"
    if name in folds:
        of = f"mean of {folds['folds']} folds, each trained alike"
        yield TITLES[name], f"{folds[name]:.3f}", _interval(folds, name), of


def _interval(scores: Mapping[str, Any], name: str) -> str:
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    return UNKNOWN if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _limits(record: ClassifierRecord) -> str:
    return (
        f"- It knows {len(record.labels)} classes and gives every sound one of them, whatever it holds.\n"
        "- Scores hold for recordings like those that judged it. Other rooms, microphones, languages and "
        "ways of speaking are another matter: try it on recordings of yours before you rely on it.\n"
        "- An explanation tells what moved this classifier, not what a person feels. It is no ground for a "
        "decision about anyone."
    )


def _section(title: str, text: str) -> tuple[str, str]:
    return f"## {title}", text


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (heading, ("---",) * len(heading), *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(_plain, names[:MAX_NAMED]))
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def _code(text: str) -> str:
    """Text as code, in one line, also in a table.

    >>> _code("a|b")
    '`a/b`'
    """
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "/") + "`"


def _plain(text: object) -> str:
    """Text that is neither markup nor the end of a table's cell.

    >>> _plain("<b>|`x`")
    '&lt;b&gt;&#124;&#96;x&#96;'
    """
    return escape(" ".join(str(text).split())).replace("|", "&#124;").replace("`", "&#96;")


RECORD_NAME = "classifier.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
NAMES = (CARD_NAME, WEIGHTS_NAME, RECORD_NAME)
DIGEST_KEY = "weights_sha256"


@dataclass(frozen=True)
class Exported:
    """An exported classifier, before its backbone is looked for.

    Args:
        record: Everything but the weights.
        state: What is trained, as `trained_state` gave it.
    """

    record: ClassifierRecord
    state: dict[str, Tensor]

    def files(self) -> dict[str, bytes]:
        """The content of its two files by name; equal classifiers give equal bytes."""
        state = {name: self.state[name].detach().cpu().contiguous() for name in sorted(self.state)}
        weights = save(state, metadata={"format": "pt"})
        values = {**self.record.to_dict(), DIGEST_KEY: hashlib.sha256(weights).hexdigest()}
        record = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return {WEIGHTS_NAME: weights, RECORD_NAME: record.encode()}

    def open(self) -> EmotionClassifier:
        """The classifier, in evaluation mode on the CPU.

        Raises:
            CheckpointError: If record and weights do not fit together, or the backbone found under the
                recorded name is another one.
            ModelError: If the backbone cannot be opened.
        """
        return restore_classifier(self.record, self.state)


def read_exported(record: Path, weights: Path) -> Exported:
    """Read the two files.

    Raises:
        CheckpointError: If one is damaged, or they do not belong together.
    """
    try:
        values = json.loads(record.read_bytes())
        digest = values.pop(DIGEST_KEY)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"model={record} is not the record of a classifier ({error!r}); export it again"
        ) from error
    return Exported(ClassifierRecord.from_dict(values), _read_weights(weights, digest))


def _read_weights(weights: Path, digest: str) -> dict[str, Tensor]:
    try:
        content = weights.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise CheckpointError(
                f"model={weights} has sha256={found[:12]}, but {RECORD_NAME} beside it belongs to weights of "
                f"sha256={digest[:12]}; one of them was changed, so copy or export both again"
            )
        return load(content)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model={weights} cannot be read: {error}; copy or export it again") from error


OF_THE_HUB = (".gitattributes", ".git", ".cache")
UNFINISHED = ".unfinished"

Scores = Mapping[str, Any] | str | PathLike[str]


def export_classifier(
    classifier: EmotionClassifier,
    folder: str | PathLike[str],
    *,
    title: str | None = None,
    scores: Scores | None = None,
    licence: str | None = None,
    backbone: str | None = None,
    place: str | None = None,
) -> Path:
    """Write `model.safetensors`, `classifier.json` and `README.md`; equal classifiers give equal bytes.

    The backbone is not written. Its name, revision and fingerprint are.

    Args:
        classifier: What to export.
        folder: Where to; it is made, or holds an earlier export, which is replaced.
        title: What to call it; the folder's name if None.
        scores: A `test.json`, or its content; the scores that the classifier carries if None.
        licence: The Hub's short name of the licence, such as `"cc-by-nc-sa-4.0"`; unstated if None.
        backbone: Where others find the very same backbone, by its name on the Hub; as it was opened if None.
        place: What its page says to open; the folder's name if None.

    Returns:
        The folder.

    Raises:
        SettingError: If the folder holds something else, or cannot be written, or the scores cannot be read.
    """
    folder = Path(folder)
    _check_folder(folder)
    record = _describe(classifier, scores, backbone)
    name = folder.resolve().name
    card = write_card(record, title=title or name, licence=licence, place=place or name)
    try:
        _write(folder, Exported(record, trained_state(classifier)), card)
    except OSError as error:
        raise SettingError(
            f"folder={folder} cannot be written: {error.strerror or error}; give another folder"
        ) from error
    return folder


def push_classifier(
    classifier: EmotionClassifier,
    repo_id: str,
    *,
    private: bool = True,
    title: str | None = None,
    scores: Scores | None = None,
    licence: str | None = None,
    backbone: str | None = None,
    message: str = "Upload an emotion classifier",
    api: HfApi | None = None,
) -> str:
    """Export to a repository on the Hub, which is made where there is none.

    Args:
        classifier: What to publish.
        repo_id: `"user/name"`.
        private: Make a new repository visible to its owner alone; an existing one stays as it is.
        title: What to call it; the repository's name if None.
        scores: A `test.json`, or its content; the scores that the classifier carries if None.
        licence: The Hub's short name of the license, such as `"cc-by-nc-sa-4.0"`; unstated if None.
        backbone: Name on the Hub under which others find the same backbone; as it was opened if None.
        message: The commit's.
        api: How the Hub is reached; the login of `hf auth login` if None.

    Returns:
        The address of the commit.

    Raises:
        SettingError: If the repository holds something else, or the backbone is a folder of this machine,
            which nobody else has.
        ModelError: If the Hub refuses or cannot be reached.
    """
    name = backbone or classifier.backbone.settings.name
    if Path(name).expanduser().exists():
        raise SettingError(
            f"backbone={name!r} is a folder of this machine, without which nobody else can open the "
            "classifier; publish it too, and give its name on the Hub as backbone='user/name'"
        )
    api = api or HfApi(library_name="wavshap-lightning")
    with TemporaryDirectory() as folder:
        export_classifier(
            classifier,
            folder,
            title=title or repo_id,
            scores=scores,
            licence=licence,
            backbone=backbone,
            place=repo_id,
        )
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            _check_repository(repo_id, api.list_repo_files(repo_id))
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, allow_patterns=[*NAMES], commit_message=message
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise ModelError(
                f"repo_id={repo_id!r} could not be written: {_first_line(error)}; check the name and the "
                "network, and with 'hf auth whoami' who is logged in"
            ) from error
    return done.commit_url


def _describe(classifier: EmotionClassifier, scores: Scores | None, backbone: str | None) -> ClassifierRecord:
    provenance = classifier.provenance
    known = provenance.scores if scores is None else {**provenance.scores, "test": _read_scores(scores)}
    record = describe_classifier(
        classifier, protocol=provenance.protocol, versions=provenance.versions, scores=known
    )
    return replace(record, backbone=replace(record.backbone, **_reference(record.backbone.name, backbone)))


def _reference(name: str, published: str | None) -> dict[str, Any]:
    """A folder by its whole path, since the export may be opened from anywhere."""
    if published is not None:
        return {"name": published, "revision": None}
    return {"name": str(Path(name).expanduser().resolve())} if Path(name).expanduser().is_dir() else {}


def _read_scores(scores: Scores) -> dict[str, float]:
    try:
        content = scores if isinstance(scores, Mapping) else json.loads(Path(scores).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(
            f"scores={scores} cannot be read ({error}); give the test.json of a test, or its content"
        ) from error
    found = own_scores(content) if isinstance(content, Mapping) else {}
    if "uar" not in found:
        raise SettingError(f"scores={scores} holds no uar; give the test.json of a test, or its content")
    return found


def _write(folder: Path, exported: Exported, card: str) -> None:
    """The record last: with half an export, its digest does not fit."""
    files = {CARD_NAME: card.encode(), **exported.files()}
    for name in NAMES:
        write_atomically(folder / name, files[name])


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        found = {path.name for path in folder.iterdir() if not path.name.endswith(UNFINISHED)}
        _check_names(f"folder={folder}", found, "give a new folder, or that of an earlier export")
    elif folder.exists():
        raise SettingError(f"folder={folder} is a file; give a folder to export to")


def _check_repository(repo_id: str, names: list[str]) -> None:
    _check_names(f"repo_id={repo_id!r}", set(names), "give the name of a new repository")


def _check_names(what: str, names: set[str], remedy: str) -> None:
    """Refuse a place that holds anything but an earlier export."""
    others = sorted(names - {*NAMES, *OF_THE_HUB})
    if not others and names - {*OF_THE_HUB} and RECORD_NAME not in names:
        others = sorted(names - {*OF_THE_HUB})
    if others:
        raise SettingError(
            f"{what} holds something else ({', '.join(others[:4])}), which is not overwritten; {remedy}"
        )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
