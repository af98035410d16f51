"""Every configuration that comes with the project: it parses, it builds, it says where its corpus is had."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from wavshap_lightning.cli import train
from wavshap_lightning.cli.options import read_arguments
from wavshap_lightning.cli.study import bench
from wavshap_lightning.corpora.catalogue import CORPORA, corpus_named
from wavshap_lightning.corpora.imports import FORMATS
from wavshap_lightning.models import backbone
from wavshap_lightning.models.pretrained import PretrainedSpeechModel, build_tiny_model
from wavshap_lightning.training.data.preparation import list_clips
from wavshap_lightning.training.study.settings import StudySettings

ROOT = Path(__file__).parents[1]
CONFIGS = {path.stem: path for path in sorted((ROOT / "configs").glob("*.yaml"))}
FRAGMENTS = {path.stem: path for path in sorted((ROOT / "configs/backbones").glob("*.yaml"))}
OFFLINE = {"demo", "planted_votes", "planted_dimensions"}
OF_CORPUS = {name: path for name, path in CONFIGS.items() if name not in OFFLINE}
SHARING = {"meld"}

# Lightning calls its parser's old names.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

each_config = pytest.mark.parametrize("name", CONFIGS)
each_corpus_config = pytest.mark.parametrize("name", OF_CORPUS)
each_fragment = pytest.mark.parametrize("fragment", FRAGMENTS)


# Small trees: what lies below each corpus's root, as file names with their text


def named(template, **choices):
    """The template filled with every combination of the choices."""
    return {
        template.format(**dict(zip(choices, values, strict=True))): ""
        for values in product(*choices.values())
    }


def numbers(first, last, width):
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


def iemocap():
    turn = "[{i}.0 - {i}.9]\tSes0{s}F_impro01_{w}00{i}\t{label}\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\t()\n"
    labels = ("neu", "hap", "exc", "ang", "sad", "xxx")
    return {
        f"Session{s}/dialog/EmoEvaluation/Ses0{s}F_impro01.txt": "\n".join(
            turn.format(s=s, w=w, i=i, label=label) for w in "FM" for i, label in enumerate(labels)
        )
        for s in range(1, 6)
    } | named("Session{s}/dialog/wav/Ses0{s}F_impro01.wav", s=range(1, 6))


def meld():
    folders = {
        "train": "train_splits",
        "dev": "dev_splits_complete",
        "test": "output_repeated_splits_test",
    }
    emotions = ("neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise")
    table = "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n" + "".join(
        f"Hi,Monica,{emotion},0,{i}\n" for i, emotion in enumerate(emotions)
    )
    tables = {f"{split}_sent_emo.csv": table for split in folders}
    return tables | named("{folder}/dia0_utt{i}.wav", folder=folders.values(), i=range(7))


def msp_podcast():
    splits = {"Train": 1, "Development": 2, "Test1": 3, "Test2": 4}
    table = "FileName,EmoClass,SpkrID,Split_Set\n" + "".join(
        f"MSP-PODCAST_000{who}_{label}.wav,{label},{who},{split}\n"
        for (split, who), label in product(splits.items(), "AHSUFDCNOX")
    )
    recordings = named("Audios/MSP-PODCAST_000{who}_{label}.wav", who=splits.values(), label="AHSUFDCNOX")
    return {"Labels/labels_consensus.csv": table} | recordings


def esd():
    emotions = ("Neutral", "Happy", "Sad", "Angry", "Surprise")
    return {f"{a}/{e}/{a}_00000{i}.wav": "" for a in numbers(1, 20, 4) for i, e in enumerate(emotions)}


def manifest():
    rows = "".join(f"{who}_{label}.wav,{label},{who}\n" for who, label in product("abcde", ("happy", "sad")))
    return {"manifest.csv": "path,label,speaker\n" + rows} | named(
        "{w}_{l}.wav", w="abcde", l=("happy", "sad")
    )


def spoken():
    """RAVDESS with something voiced in it, in which cues can be planted."""
    time_s = np.arange(20_000) / 16_000
    hum = sum(np.sin(2 * np.pi * 130 * k * time_s) / k for k in range(1, 9))
    buffer = BytesIO()
    soundfile.write(buffer, 0.1 * hum * (1 + 0.3 * np.sin(9 * time_s)), 16_000, format="WAV")
    names = named("Actor_{a}/03-01-{e}-01-01-01-{a}.wav", a=numbers(1, 3, 2), e=numbers(1, 6, 2))
    return dict.fromkeys(names, buffer.getvalue())


TREES = {
    "ravdess": named("Actor_{a}/03-01-{e}-01-01-01-{a}.wav", a=numbers(1, 24, 2), e=numbers(1, 8, 2)),
    "crema_d": named(
        "AudioWAV/{a}_DFA_{e}_XX.wav",
        a=numbers(1001, 1091, 4),
        e=("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"),
    ),
    "emodb": named("wav/{a}a01{e}a.wav", a=("03", *numbers(8, 16, 2)), e="WLEAFTN"),
    "tess": named(
        "{a}_{e}/{a}_{text}_{e}.wav",
        a=("OAF", "YAF"),
        e=("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"),
        text=("back", "bar", "base"),
    ),
    "savee": named("{a}/{e}01.wav", a=("DC", "JE", "JK", "KL"), e=("a", "d", "f", "h", "n", "sa", "su")),
    "jl_corpus": named(
        "{a}_{e}_10a_1.wav",
        a=("female1", "female2", "male1", "male2"),
        e=CORPORA["jl-corpus"].labels,
    ),
    "iemocap": iemocap(),
    "meld": meld(),
    "msp_podcast": msp_podcast(),
    "esd": esd(),
    "manifest": manifest(),
    "planted_in": spoken(),
    "folders": named("{e}/{a}_01.wav", a=("anna", "ben", "cleo"), e=("happy", "sad")),
    "flat": named("{a}_{e}_01.wav", a=("anna", "ben", "cleo"), e=("happy", "sad")),
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """A small tree of every corpus, by the name of its configuration."""
    folder = tmp_path_factory.mktemp("corpora")
    for name, files in TREES.items():
        for file, text in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {name: folder / name for name in TREES}


# The command line without its run, and without the Hub


@pytest.fixture(scope="module")
def offline():
    """No command runs, and every backbone is the tiny one under the name asked for."""

    def open_pretrained(name, revision=None):
        return PretrainedSpeechModel(build_tiny_model(0), name=name, revision=revision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "open_pretrained", open_pretrained)
        yield


@pytest.fixture(scope="module")
def build(offline, roots, tmp_path_factory):
    """`(*configurations) -> trainer, module, datamodule, settings`, built and not run; made once each."""
    runs = tmp_path_factory.mktemp("runs")
    few = {"num_speakers": 3, "clips_per_speaker_and_label": 1}

    @cache
    def build(*paths):
        configs = [f"--config={path}" for path in paths]
        options = yaml.safe_load(paths[0].read_text())["data"].get("options", {})
        few_clips = f"--data.options={options | few}"
        root = [f"--data.root={roots[paths[0].stem]}"] if paths[0].stem in roots else [few_clips]
        here = [f"--run.directory={runs}", f"--data.cache_dir={runs}", "--run.wandb=off"]
        config = train.build_parser("fit").parse_args([*configs, *root, *here, "--trainer.accelerator=cpu"])
        return train.build_run("fit", config, checkpoint=None, folder=None)

    return build


@pytest.fixture(scope="module")
def parse(offline):
    """`(*configurations, flags=()) -> Namespace`."""
    parser = train.build_parser("fit")

    @cache
    def parse(*paths, flags=()):
        return parser.parse_args([*(f"--config={path}" for path in paths), *flags])

    return lambda *paths, flags=(): parse(*paths, flags=flags).clone()


# Laws


def test_every_corpus_has_a_configuration():
    configured = {
        corpus_named(yaml.safe_load(path.read_text())["data"]["corpus"]).name for path in CONFIGS.values()
    }
    assert configured == set(CORPORA) - set(FORMATS)  # which configs/manifest.yaml serves
    assert set(TREES) == set(OF_CORPUS)


@each_config
def test_a_configuration_builds_what_it_names(name, build):
    trainer, module, data = build(CONFIGS[name])
    wanted = yaml.safe_load(CONFIGS[name].read_text())
    settings = module.classifier.backbone.settings
    assert {key: getattr(settings, key) for key in wanted["model"]["backbone"]} == wanted["model"]["backbone"]
    assert data.corpus == wanted["data"]["corpus"]
    assert trainer.max_epochs == wanted["trainer"]["max_epochs"]
    assert Path(trainer.log_dir).parent.name == wanted["run"]["name"]
    expected = corpus_named(wanted["data"]["corpus"]).labels
    (task,) = wanted["model"].get("tasks", [{"task": "classes"}])
    assert module.classifier.task == task["task"]
    assert module.classifier.labels == tuple(task.get("labels", data.labels))
    assert not expected or module.classifier.labels == expected


@each_corpus_config
def test_the_first_fold_has_clips_in_every_part(name, build, tmp_path):
    data = build(CONFIGS[name])[2]
    data.cache_directory = tmp_path
    clips = list_clips(data.corpus, data.root, data.options, tmp_path, seed=data.seed)
    parts = data.protocol.split(clips, data.fold)
    speakers = {part: {clip.speaker for clip in members} for part, members in parts.items()}
    assert all(parts.values())
    assert data.allow_shared_speakers == (name in SHARING)
    assert speakers["test"].isdisjoint(speakers["train"]) == (name not in SHARING)


def leaves(values, prefix=""):
    """The settings of a configuration as pairs of dotted key and value."""
    for name, value in values.items():
        nested = isinstance(value, dict)
        yield from leaves(value, f"{prefix}{name}.") if nested else [(prefix + name, value)]


@each_corpus_config
@each_fragment
def test_a_backbone_stacks_on_every_corpus(name, fragment, parse):
    stacked, plain = parse(OF_CORPUS[name], FRAGMENTS[fragment]), parse(OF_CORPUS[name])
    for key, value in leaves(yaml.safe_load(FRAGMENTS[fragment].read_text())):
        assert stacked[key] == value
        plain[key] = value
    del stacked["config"], plain["config"]
    assert stacked == plain


def test_a_stacked_backbone_is_the_one_opened(build):
    settings = build(OF_CORPUS["emodb"], FRAGMENTS["tiny"])[1].classifier.backbone.settings
    assert (settings.name, settings.revision) == ("tiny", None)


@each_fragment
def test_a_fragment_holds_a_pinned_backbone_and_what_suits_it(fragment):
    content = yaml.safe_load(FRAGMENTS[fragment].read_text())
    suited = ["model.head.layer", "model.head.hidden_size", "trainer.max_epochs"] * (fragment == "tiny")
    suited += ["model.backbone.pad_to_window"] * fragment.startswith("whisper")
    assert {key for key, _ in leaves(content)} == {"model.backbone.name", "model.backbone.revision", *suited}
    assert_pinned(content["model"]["backbone"])


@each_config
def test_a_configuration_pins_its_backbone(name):
    assert_pinned(yaml.safe_load(CONFIGS[name].read_text())["model"]["backbone"])


def assert_pinned(settings):
    """The embedded backbone has no revision; one of the Hub has a commit."""
    if settings["name"] == "tiny":
        assert settings.get("revision") is None
    else:
        assert re.fullmatch(r"[0-9a-f]{40}", settings["revision"])


@pytest.mark.parametrize(
    "key", ["data.corpuss", "model.backbone.reversion", "trainer.max_epoch", "runs.name"]
)
def test_an_unknown_key_is_refused(key, parse, tmp_path, capsys):
    *groups, last = key.split(".")
    content = {last: "x"}
    for group in reversed(groups):
        content = {group: content}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit) as stopped:
        parse(OF_CORPUS["ravdess"], path)
    assert stopped.value.code == 2
    assert last in capsys.readouterr().err


@each_corpus_config
def test_the_header_says_licence_source_and_command(name):
    corpus = corpus_named(yaml.safe_load(CONFIGS[name].read_text())["data"]["corpus"])
    header = [line for line in CONFIGS[name].read_text().splitlines() if line.startswith("# ")]
    text = "\n".join(header)
    licence, source = re.split(r"[ ,]", corpus.licence)[0], corpus.layout.homepage.split(" ")[0]
    assert licence.lower() in text.lower()
    assert source.lower() in text.lower()
    words = shlex.split(header[-1].removeprefix("# "))
    assert words[:5] == ["python", "train.py", "fit", "--config", f"configs/{name}.yaml"]
    assert words[5] == "--data.root"


@pytest.mark.parametrize("name", ["msp_podcast", "esd"])
def test_the_option_in_a_header_changes_the_clips(name, parse, build, roots, tmp_path):
    (option,) = re.findall(r"--data\.options '(.+)'", OF_CORPUS[name].read_text())
    options = parse(OF_CORPUS[name], flags=(f"--data.options={option}",)).data.options
    plain = build(OF_CORPUS[name])[2]
    changed = list_clips(plain.corpus, plain.root, options, tmp_path)
    assert changed
    assert changed != list_clips(plain.corpus, plain.root, plain.options, tmp_path)


STUDIES = {path.stem: path for path in sorted((ROOT / "configs/studies").glob("*.yaml"))}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_reads_as_settings(name):
    path = STUDIES[name]
    settings = read_arguments(bench, ["--config", str(path)], prog="train.py bench")["settings"]
    assert settings.name == name
    assert StudySettings.from_options(**asdict(settings)) == settings
    assert f"python train.py bench configs/studies/{name}.yaml" in path.read_text()
