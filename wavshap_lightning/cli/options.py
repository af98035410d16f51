"""Command-line options from signatures: parameters of a command, and fields of its settings."""

from __future__ import annotations

import json
import re
from argparse import SUPPRESS, Action, ArgumentError, HelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import getdoc, signature
from itertools import zip_longest
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, set_loader

POSITIONALS = {
    "model": "Checkpoint, run such as runs/demo, exported folder, or Hugging Face model.",
    "folder": "A new folder, or that of an earlier export.",
    "format": "One of audiofolder, kaldi, speechbrain, lhotse, audformat and nkululeko.",
    "source": "The table, or a folder that holds tables.",
    "manifest": "A new .csv or .jsonl file.",
    "recordings": "A manifest, or a folder of recordings.",
    "out": "Folder of the TextGrids.",
    "audio": "Audio files, folders to search, or manifests (.csv, .jsonl); without any, a synthetic clip.",
}
KINDS = {int: "N", float: "X", bool: "BOOL"}
HELP_WIDTH, HELP_COLUMN = 100, 23
WITHOUT_VALUE = ("-h", "--help", "--print_config")
SWITCHED = re.compile("true|false|yes|no|on|off|null|0|1", re.IGNORECASE)
"""Words after a switch that are its value, or a mistaken one, and not a recording."""


class PlainYaml(yaml.SafeLoader):  # type: ignore[misc] # it has no types
    """YAML in which `no`, `off`, `012`, `12:30` and dates are text, as in YAML 1.2, and so is every key."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:  # noqa: ANN401 - as of the base class
        """Tag of a node."""
        is_text = kind is yaml.ScalarNode and implicit[0] and not UNQUOTED.fullmatch(value)
        return TEXT if is_text else super().resolve(kind, value, implicit)

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """A mapping whose keys are text as it is written.

        Raises:
            ComposerError: If a key stands twice, or without a value: a section would lose all its options.
        """
        node, known = super().compose_mapping_node(anchor), set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            is_empty = isinstance(value, yaml.ScalarNode) and not value.value and not value.style
            if key.value in known or is_empty:
                what = "without a value (leave it out, or write null)" if is_empty else "twice"
                raise yaml.composer.ComposerError(None, None, f"found {key.value!r} {what}", key.start_mark)
            known.add(key.value)
            key.tag = TEXT
        return node


TEXT = "tag:yaml.org,2002:str"
UNQUOTED = re.compile(
    r"|~|null|true|false|<<|[-+]?\.(inf|nan)|[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?(e[-+]?[0-9]+)?", re.IGNORECASE
)
"""Null, booleans and numbers; everything else is text without quotes."""


def load_yaml(text: str, path: str = "") -> Any:  # noqa: ANN401 - whatever it holds
    """Content of a YAML text.

    Args:
        text: The text.
        path: Name of the file, if it is that of a configuration.

    Raises:
        YAMLError: On one line, if it is malformed, or a configuration without options.
    """
    try:
        found = yaml.load(text, PlainYaml)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        raise yaml.YAMLError(f"{path}: {error.problem} in line {error.problem_mark.line + 1}") from error
    if path and not isinstance(found, dict):
        raise yaml.YAMLError(f"{path} has no options; write each as NAME: VALUE")
    return found


YAML_MODE = "plain_yaml"
set_loader(YAML_MODE, load_yaml, (yaml.YAMLError,))


def parse_words(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Options of a command from the words after its name.

    Raises:
        SystemExit: After help was asked for, or with 2 if a word cannot be understood.
    """
    parser.exit_on_error = False
    try:
        values = parser.parse_args(list(words))
        options = filter(_refuses_null, parser._actions)  # noqa: SLF001 - its public methods list no actions
        nulls = [option.dest for option in options if values.get(option.dest, "") is None]
        message = f"{nulls[0]}=null: give a value, or leave it out" if nulls else ""
    except UnicodeDecodeError as error:
        message = f"--config: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
    except ArgumentError as error:
        quoted = "; put it in quotes" if "Expected a <class 'str'>" in str(error) else ""
        message = _in_a_line(str(error)) + quoted
    finally:
        parser.exit_on_error = True
    if message:
        parser.error(message)
    return values


def _in_a_line(text: str) -> str:
    """The parser's error on one line, where it is a tree of all types that a value does not fit."""
    reasons = re.findall(r"Option '.*' is not accepted|Expected (?!.*NoneType|a path).*", text)
    if "Union subtypes" not in text or not reasons:
        return text
    key, given = ".".join(re.findall(r'Parser key "(.*)":', text)), re.search(r"Given value: (.*)", text)
    words = " or ".join(dict.fromkeys(reasons))
    words += f". Got value: {given[1]}" if given and not re.search("Got value|Option", words) else ""
    return f'Parser key "{key}": ' + re.sub(r"<class '(\w+)'>|typing\.", r"\1", words)


def _refuses_null(action: Action) -> bool:
    """True if an option is never null, which the parser itself lets pass."""
    hint = getattr(action, "_typehint", None)
    return hint not in (None, Any) and action.default is not None and type(None) not in get_args(hint)


def _shorten(action: Action) -> None:
    """Describe an option in a line or two: the first sentence of its help, its choices, its default."""
    hint = getattr(action, "_typehint", None)
    text = " ".join((action.help or "").split()).replace("`", "").replace('"', "").replace("%", "%%")
    sentence = text.split(". ")[0].split("; ")[0].rstrip(".")
    if choices := _choices(hint):
        sentence = f"{_first_clause(sentence)}: {', '.join(choices)}"
    elif len(sentence) > HELP_WIDTH - HELP_COLUMN:
        sentence = _first_clause(sentence)
    default = action.default
    if action.option_strings and default not in (None, "", [], {}, (), SUPPRESS):
        sentence += f" [{','.join(map(str, default)) if isinstance(default, list) else str(default).lower()}]"
    action.help = sentence
    if hint is not None and action.option_strings:
        kind = next((KINDS[one] for one in (hint, *get_args(hint)) if one in KINDS), "VALUE")
        action.option_strings = action.option_strings[:1]  # the second, --NAME+, appends to a list
        action.metavar = "LIST" if get_origin(hint) in (list, Sequence) else kind


def _first_clause(sentence: str) -> str:
    """A sentence up to its first colon, else up to a comma outside of brackets.

    >>> _first_clause("Spans (start_s, end_s) to sum over, in order")
    'Spans (start_s, end_s) to sum over'
    """
    return re.match(r"(?:[^:,(]|\([^)]*\))*", sentence).group()  # type: ignore[union-attr] # it may be empty


def _choices(hint: Any) -> list[str]:  # noqa: ANN401 - a type annotation
    """The texts among the values that an annotation allows."""
    found = [one for one in get_args(hint) if isinstance(one, str)]
    return found + [text for inner in get_args(hint) if get_args(inner) for text in _choices(inner)]


def read_arguments(
    command: Callable[..., object],
    words: Sequence[str],
    *,
    prog: str,
    epilog: str = "",
    defaults: Mapping[str, Any] | None = None,
    hide_shared: bool = False,
) -> dict[str, Any]:
    """Arguments of a command from the words after its name.

    Every parameter of the command is an option, and so is every field of a parameter that is a dataclass,
    under its own name; `model` and `audio` are positional. `--config` reads a YAML file with the same keys.
    Lists may be written with commas, a switch without its value is on, and options may stand between the
    recordings.

    Args:
        command: Function with annotated parameters and a docstring that describes them.
        words: The words of the command line.
        prog: The program and the command, for the help.
        epilog: Last lines of the help.
        defaults: Defaults that differ from those of the signatures, by option.
        hide_shared: Leave the fields of dataclasses out of the help, because another page describes them.

    Raises:
        SystemExit: After help was asked for, or with 2 if a word cannot be understood.
        SettingError: If the fields of a dataclass are refused.
    """
    hints = get_type_hints(command)
    records = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    required = {name for name, one in signature(command).parameters.items() if one.default is one.empty}
    positionals = [name for name in POSITIONALS if name in required]
    shown = " ".join("[AUDIO ...]" if name == "audio" else name.upper() for name in positionals)
    parser = ArgumentParser(
        prog=prog,
        usage=f"%(prog)s {shown} [--NAME VALUE ...]",
        description=(getdoc(command) or "").split("\n\n")[0],
        epilog=epilog,
        parser_mode=YAML_MODE,
        formatter_class=partial(HelpFormatter, max_help_position=HELP_COLUMN, width=HELP_WIDTH),  # type: ignore[arg-type]
        allow_abbrev=False,  # a prefix of an option would be taken for it
    )
    for name in positionals:
        many = "*" if name == "audio" else None
        parser.add_argument(name, metavar=name.upper(), help=POSITIONALS[name], nargs=many, type=str)
    parser.add_argument("--config", metavar="FILE", action="config", help="YAML file with these options")
    shared = [name for one in records.values() for name in parser.add_class_arguments(one, as_group=False)]
    own = parser.add_function_arguments(command, as_group=False, skip={*positionals, *records})
    parser.set_defaults({key: value for key, value in (defaults or {}).items() if key in {*shared, *own}})
    hidden = {"help", "print_config", *(shared if hide_shared else ())}
    actions = parser._actions  # noqa: SLF001 - its public methods list no actions
    for action in actions:
        _shorten(action)
        action.help = SUPPRESS if action.dest in hidden else action.help
    lists = {f"--{one.dest}" for one in actions if one.metavar == "LIST"}
    switches = {f"--{one.dest}" for one in actions if one.metavar == "BOOL"}
    values = parse_words(parser, _arranged([*_spelled_out(words, switches)], lists)).as_dict()
    values.pop("config")
    values |= {
        name: getattr(record, "from_options", record)(
            **{field.name: values.pop(field.name) for field in fields(record) if field.init}
        )
        for name, record in records.items()
    }
    return values


def _spelled_out(words: Sequence[str], switches: set[str]) -> Iterator[str]:
    """The words, with `true` after switches that have no value.

    >>> list(_spelled_out(["--cues", "a.wav", "--figures", "false"], {"--cues", "--figures"}))
    ['--cues=true', 'a.wav', '--figures', 'false']
    """
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        yield f"{word}=true" if word in switches and not SWITCHED.fullmatch(after) else word


def _arranged(words: Sequence[str], lists: set[str]) -> list[str]:
    """The words with positional ones first, as argparse needs them, and comma-separated lists as JSON.

    >>> _arranged(["MODEL", "--stages", "frames,layers", "a.wav", "--seed=1"], {"--stages"})
    ['MODEL', 'a.wav', '--stages=["frames", "layers"]', '--seed=1']
    """
    positional: list[str] = []
    options: list[str] = []
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if word == "--":
            positional += remaining
        elif not word.startswith("-") or word == "-":
            positional.append(word)
        elif name in WITHOUT_VALUE:
            options.append(word)
        else:
            given = value if equals else next(remaining, None)
            if given is not None and name in lists and not given.startswith("["):
                given = json.dumps([part.strip() for part in given.split(",") if part.strip()])
            options.append(name if given is None else f"{name}={given}")
    return [*positional, *options]
