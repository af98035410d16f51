"""The page of an exported classifier: for the Hub its first lines, for people the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from shlex import quote
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.models.checkpoint import ClassifierRecord

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
        "from wavshap_lightning import explain, open_classifier, plot\n\n"
        f"classifier = open_classifier({place!r})\n"
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
