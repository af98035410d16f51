"""Model card of an exported classifier: what it is, how it was trained, how good it is, its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from wavshap_lightning.corpora.catalogue import Corpus, corpus_named
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.models.record import ClassifierRecord

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
TITLES = {
    "uar": "UAR (recall averaged over classes)",
    "wa": "WA (accuracy)",
    "macro_f1": "macro F1",
    "ece": "ECE (calibration error)",
    "jsd": "JSD (Jensen-Shannon divergence from the votes)",
    "ccc": "CCC (concordance, averaged over dimensions)",
}
METRICS = {"uar": "recall", "wa": "accuracy", "macro_f1": "f1"}
MAX_NAMED = 12


def write_card(record: ClassifierRecord, *, title: str, license: str | None, place: str) -> ModelCard:  # noqa: A002
    """Fill the template of the model card.

    Args:
        record: Record of the classifier.
        title: Title of the card.
        license: License identifier of the Hub; omitted if None.
        place: Folder or repository from which the classifier is loaded.
    """
    corpus = str(record.protocol.get("corpus", "")).removeprefix("planted-in-")
    return ModelCard.from_template(
        _card_data(record, title, license),
        template_path=str(TEMPLATE),
        title=title,
        record=record,
        place=place,
        command=f"python explain.py {quote(place)} clip.wav",
        corpus=corpus,
        known_corpus=_known_corpus(corpus),
        scores=list(_score_rows(record.scores)),
        plain=_plain,
        code=_code,
        listed=_listed,
    )


def _card_data(record: ClassifierRecord, title: str, license: str | None) -> ModelCardData:  # noqa: A002
    test, corpus = record.scores.get("test", {}), str(record.protocol.get("corpus"))
    results = [
        EvalResult(
            task_type="audio-classification",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split="test",
            metric_type=metric,
            metric_name=TITLES[name],
            metric_value=round(float(test[name]), 4),
        )
        for name, metric in METRICS.items()
        if name in test
    ]
    name = record.backbone.name
    on_hub = "/" in name and not name.startswith(("/", "~", "."))
    return ModelCardData(
        license=license,
        library_name="wavshap-lightning",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "explainability"],
        base_model=name if on_hub else None,
        model_name=title if results else None,
        eval_results=results or None,
        labels=list(record.labels),
    )


def _known_corpus(name: str) -> Corpus | None:
    """The corpus of that name, where its license is known."""
    try:
        corpus = corpus_named(name)
    except CorpusError:
        return None
    return None if corpus.licence == "yours" else corpus


def _score_rows(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Score, value, interval, and what was scored."""
    folds = scores.get("cross_validation", {})
    kinds = (
        (scores.get("test", {}), "this classifier, test clips"),
        (folds, f"mean of {folds.get('folds')} folds, each trained alike"),
    )
    for name, title in TITLES.items():
        for values, scored in kinds:
            if name in values:
                low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
                interval = "not known" if low is None or high is None else f"{low:.3f} to {high:.3f}"
                yield title, f"{values[name]:.3f}", interval, scored


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(_plain, names[:MAX_NAMED]))
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def _code(text: object) -> str:
    """Text as code, in one line, also in a table.

    >>> _code("a|b")
    '`a/b`'
    """
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "/") + "`"


def _plain(text: object) -> str:
    """Text that is neither markup nor the end of a table's cell.

    >>> _plain("<b>|`x`")
    '&lt;b&gt;&#124;&#96;x&#96;'
    """
    return escape(" ".join(str(text).split())).replace("|", "&#124;").replace("`", "&#96;")
