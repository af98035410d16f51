"""Damaged configurations: the same corpus, or a refusal that names the option or the line."""

from __future__ import annotations

from inspect import signature

import pytest
import yaml
from hypothesis import strategies as st

from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.loggers import RunSettings

pytestmark = pytest.mark.usefixtures("unchecked_types")

OPTIONS = [
    f"{section}.{name}"
    for section, owner in {"data": EmotionDataModule, "run": RunSettings}.items()
    for name in signature(owner).parameters
]
# YAML as people write it, wrong for most options.
VALUES = (
    "", "yes", "off", "perhaps", "-1", "2.5", "1e400", ".nan", "-.inf", "9" * 30, "0x10", "1_000", "12:30",
    "''", "2024-01-01", "'5'", "[]", "[1, 2]", "{}", "{a: b}", "{1: {2: ~}}", "'../..'", "/dev/null/x",
    "*a", "&a [*a]", "!!python/name:os.system", "!!binary aGk=", "'{'", "a: b", "?", "${HOME}", "x" * 5_000,
    "~nobody/a.csv",
)  # fmt: skip
SUBSETS = {"data.labels", "data.label_map", "data.max_samples"}


@pytest.fixture
def base(corpus):
    """A configuration that is right, as text."""
    table = corpus[0].path.with_name("clips.csv")
    save_manifest(table, corpus)
    return yaml.safe_dump(
        {
            "data": {"corpus": "manifest", "root": str(table), "fold": 1, "batch_size": 4},
            "run": {"name": "fuzz", "wandb": "offline"},
            "model": {"backbone": {"name": "tiny"}},
            "trainer": {"accelerator": "cpu", "max_epochs": 1},
        }
    )


@pytest.fixture
def run(run_audit, tmp_path):
    """`(content) -> Outcome` of `train.py audit` with this configuration."""

    def run(content):
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return run_audit("--config", str(path))

    return run


def assert_same_or_refused(outcome, *names):
    assert outcome.counts == (24, 3, 4) or any(name in outcome.said for name in names), outcome
    assert outcome.counts in {None, (24, 3, 4)}, outcome


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_a_value_of_the_wrong_kind_is_refused_by_the_name_of_its_option(run, base, option):
    section, name = option.split(".")
    content = yaml.safe_load(base)
    content[section].pop(name, None)
    for value in VALUES:
        outcome = run(yaml.safe_dump(content).replace(f"{section}:\n", f"{section}:\n  {name}: {value}\n"))
        if option not in SUBSETS or outcome.counts is None:
            assert_same_or_refused(outcome, name, "line ", value or name)


def test_a_configuration_that_was_cut_or_flipped_is_the_same_or_refused(search, run, base):
    def law(end, flips):
        content = bytearray(base.encode())
        for share, byte in flips:
            content[int(share * len(content))] = byte
        first = base.index("fold")  # without a corpus it is the demo's
        content = bytes(content[: first + int(end * (len(content) - first))])
        assert_same_or_refused(run(content), "line ", "option", "=", "--", '"')

    flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=2)
    search(law, 200, end=st.just(1.0) | st.floats(0, 1), flips=flips)


TEXTS = {
    "byte order mark": lambda text: "\ufeff" + text,
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "tabs": lambda text: text.replace("  ", "\t"),
    "no-break spaces": lambda text: text.replace("  ", "\xa0\xa0"),
    "key twice": lambda text: text.replace("  fold: 1\n", "  fold: 1\n  fold: 2\n"),
    "section twice": lambda text: text + "data:\n  fold: 0\n",
    "unknown key": lambda text: text.replace("  fold: 1\n", "  fold: 1\n  colour: blue\n"),
    "misspelled key": lambda text: text.replace("batch_size", "batchsize"),
    "section in capitals": lambda text: text.replace("data:", "DATA:"),
    "not indented": lambda text: text.replace("  fold", "fold"),
    "two documents": lambda text: f"{text}---\n{text}",
    "no mapping": lambda text: "- a\n- b\n",
    "one word": lambda text: "data",
    "nothing": lambda text: "",
    "comments": lambda text: "# data:\n#   corpus: manifest\n",
    "NUL": lambda text: text.replace("fuzz", "fu\0zz"),
    "tag": lambda text: text + "x: !!python/object/apply:os.getcwd []\n",
    "directive": lambda text: "%YAML 9.9\n---\n" + text,
    "JSON": lambda text: __import__("json").dumps(yaml.safe_load(text)),
    "quotes of a word processor": lambda text: text.replace("fuzz", "\u201cfuzz\u201d"),
    "dash": lambda text: text.replace("fold: 1", "fold: \u20131"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(TEXTS))
def test_a_text_that_is_another_configuration_is_refused(run, base, kind):
    assert_same_or_refused(run(TEXTS[kind](base)), "config", "line ", "option", "fold", "root")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_another_encoding_is_read_or_refused(run, base, encoding):
    assert_same_or_refused(run(base.replace("fuzz", "füzz").encode(encoding)), "--config")
