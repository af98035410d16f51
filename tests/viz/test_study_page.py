"""The page of a study shows the numbers of study.json, and takes no name for HTML, LaTeX or Markdown."""

import csv
import re
from html.parser import HTMLParser

import pytest

from wavshap_lightning.training.study.findings import find_faults
from wavshap_lightning.viz.report.study import axis_levels, render_study, write_study_page

VOID = {"meta", "link", "br"}
HOSTILE = "</style><b>&_%$#\\|`*\"' x"


class Balance(HTMLParser):
    """Counts what is opened and closed, and keeps tags and text."""

    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.faults, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.faults.append((tag, self.getpos()))

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    found = Balance()
    found.feed(html)
    found.close()
    assert found.faults == found.stack == []
    return found


def shown_numbers(rows, keys, form):
    return [form % row[key] for row in rows for key in keys if isinstance(row.get(key), int | float)]


def test_every_number_of_the_study_is_on_the_page(study):
    text = " ".join(parsed(render_study(study)).text)
    scores = (
        "uar",
        "uar_low",
        "uar_high",
        "wa",
        "macro_f1",
        "seed_std",
        "validation_uar",
        "low",
        "high",
        "value",
    )
    stress = study["stress"]
    for rows in (study["systems"], study["transfer"], study["inflation"], stress["ladder"], stress["groups"]):
        for number in shown_numbers(rows, scores, "%.3f"):
            assert number in text, number
    differences = ("difference", "difference_low", "difference_high")
    for rows in (study["comparisons"], study["inflation"], stress["gaps"]):
        for number in shown_numbers(rows, differences, "%+.3f"):
            assert number in text, number
    recalls = [f"{value:.2f}" for one in study["systems"] for value in one["recall"].values()]
    others = [
        "0.0003",
        "0.0006",
        "0.83",
        "0.52",
        "0.113",
        "1.37",
        "0.51",
        "1,234",
        "3,702.5",
        "0123456789abcdef" * 4,
        "2-4 0.37",
        "[0.31, 0.43]",
    ]
    assert all(number in text for number in (*recalls, *others))
    hovers = [f"{row['uar']:.3f}" for row in study["layers"]]
    hovers += [f"{row['value']:.3f}" for row in stress["abstention"]]
    assert all(number in text for number in hovers)


def test_findings_come_first_and_limits_and_commands_are_there(study):
    study["systems"][0]["chosen_on"] = "test"
    study["findings"] = find_faults(study)
    text = " ".join(" ".join(parsed(render_study(study)).text).split())
    assert text.index("Error: chosen on the test clips.") < text.index("Systems")
    assert "A sentence about limits." in text
    assert "python train.py bench study.yaml" in text
    assert "python train.py stress runs/toy" in text


def test_the_axis_of_layers_has_those_that_were_trained(study):
    def axis(*layers):
        study["layers"] = [{**study["layers"][0], "layer": layer} for layer in layers]
        page = render_study(study)
        section = page[page.index('id="layers"') : page.index('id="transfer"')]
        return re.findall(r'y="186" text-anchor="middle">(.*?)<', section)

    assert axis(2, 3, "learned") == ["2", "3", "mix"]
    assert axis(2, 5) == ["2", "3", "4", "5"]
    assert axis(*range(12), 13) == ["0", "2", "4", "6", "8", "10", "12", "13"]
    study["layers"] = study["layers"][:1]
    assert 'id="layers"' not in render_study(study)


def test_a_study_without_faults_says_so(study):
    said = "No leaked speaker, no choice on test clips"
    assert said in render_study(study)
    study["findings"] = [{"severity": "note", "name": "best not certain", "detail": "a and b."}]
    assert said in render_study(study)
    study["findings"][0]["severity"] = "warning"
    assert said not in render_study(study)


def test_what_is_missing_is_left_out(study):
    for name in ("layers", "transfer", "inflation", "comparisons", "attributions"):
        study[name] = []
    study |= {"stress": None}
    corpus = {"corpus": "toy", "clips": 3, "speakers": 1, "protocol": {"name": "toy"}, "audit": {}}
    study["corpora"] = [corpus]
    study["systems"][0] |= {"uar_low": None, "uar_high": None, "seed_std": None, "letters": ""}
    study["systems"][0]["recall"]["sad"] = None
    page = render_study(study)
    parsed(page)
    assert all(
        f'id="{name}"' not in page for name in ("layers", "transfer", "inflation", "stress", "attributions")
    )
    assert "None" not in page
    assert "None" not in render_study(study, "table.tex") + render_study(study, "table.md")


def test_nothing_is_fetched_and_no_script_runs(study):
    found = parsed(render_study(study))
    assert not [tag for tag, _ in found.tags if tag == "script"]
    links = [attrs[name] for _, attrs in found.tags for name in ("src", "href") if attrs.get(name)]
    assert all(url.startswith(("#", "data:")) for url in links)
    (policy,) = (attrs["content"] for _, attrs in found.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'none';")


def renamed(content):
    """The study with every name, label and sentence made hostile."""
    kept = {
        "severity",
        "layer",
        "pooling",
        "prior",
        "split",
        "chosen_on",
        "kind",
        "score",
        "condition",
        "corpus",
    }
    if isinstance(content, dict):
        changed = {key: value if key in kept else renamed(value) for key, value in content.items()}
        return {
            f"{HOSTILE}{key}" if key in ("angry", "happy", "sad") else key: v for key, v in changed.items()
        }
    if isinstance(content, list):
        return [renamed(one) for one in content]
    return HOSTILE + content if isinstance(content, str) else content


def test_every_name_is_text_in_html(study):
    study["findings"] = [{"severity": "error", "name": "a", "detail": "b"}]
    tags = [tag for tag, _ in parsed(render_study(study)).tags]
    hostile = renamed(study)
    for system in hostile["systems"]:
        system["corpus"] = HOSTILE
    hostile["corpora"][0]["corpus"] = HOSTILE
    found = parsed(render_study(hostile))
    assert [tag for tag, _ in found.tags] == tags
    assert sum(HOSTILE in one for one in found.text) > 20


def test_every_name_is_text_in_latex(study):
    study["systems"][0]["name"] = "a_b & 50% {x} $y$ #1 \\ ~ ^ <b>\n|"
    (row,) = [one for one in render_study(study, "table.tex").splitlines() if one.startswith("toy & a")]
    name = row.split(" & ", 1)[1].split(" & \\textbf")[0]
    expected = r"a\_b \& 50\% \{x\} \$y\$ \#1 \textbackslash{} \textasciitilde{} \textasciicircum{} "
    assert name == expected + r"\textless{}b\textgreater{} \textbar{}"
    assert row.endswith(r"\\")


def test_the_table_for_papers_is_that_of_the_study(study):
    lines = render_study(study, "table.tex").splitlines()
    assert [line for line in lines if line.startswith("\\")] == [
        r"\begin{tabular}{llcccc}",
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert r"toy & large & \textbf{0.704}\textsuperscript{a} & [0.661, 0.741] & 0.715 & 0.691 \\" in lines
    assert r"toy & small & 0.550\textsuperscript{b} & [0.507, 0.587] & 0.561 & 0.537 \\" in lines
    columns = {line.count(" & ") for line in lines if line.endswith(r"\\")}
    assert columns == {5}


def test_every_name_is_text_in_markdown(study):
    study["systems"][1]["name"] = "<b>|*x*"
    lines = render_study(study, "table.md").splitlines()
    assert r"| toy | \<b\>\|\*x\* | 0.550 b | [0.507, 0.587] | 0.561 | 0.537 |" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {7}


def test_files_are_written_and_the_csv_has_all_digits(study, tmp_path):
    study["systems"][0]["uar"] = 0.704123456
    write_study_page(study, tmp_path / "new")
    assert {one.name for one in (tmp_path / "new").iterdir()} == {
        "study.html", "table.csv", "table.tex", "table.md"
    }  # fmt: skip
    with (tmp_path / "new" / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [float(row["uar"]) for row in rows] == [0.704123456, 0.55]
    assert float(rows[1]["recall_sad"]) == pytest.approx(0.45)
    assert (tmp_path / "new" / "study.html").read_text(encoding="utf-8") == render_study(study)


@pytest.mark.parametrize("values", [(0.31, 0.72), (0.5, 0.5), (-0.2, 0.1)])
def test_levels_of_an_axis_enclose_its_values(values):
    levels = axis_levels([("a", [(x, value, None, None) for x, value in enumerate(values)])])
    assert levels[0] <= min(values)
    assert levels[-1] >= max(values)
    assert levels[0] < levels[-1]
    assert len(levels) <= 8
