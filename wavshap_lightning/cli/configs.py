"""Finding the configurations that come with the project."""

from __future__ import annotations

from pathlib import Path

from wavshap_lightning.errors import SettingError

# Beside the package in a source tree, inside it in an installed wheel.
_FOLDERS = (Path(__file__).parents[2] / "configs", Path(__file__).parents[1] / "configs")


def find_config(name: str) -> Path:
    """The path of a configuration such as `"demo.yaml"` or `"backbones/tiny.yaml"`.

    Raises:
        SettingError: If there is none of that name; the message lists those there are.
    """
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    known = sorted(str(path.relative_to(folder)) for folder in _FOLDERS for path in folder.rglob("*.yaml"))
    raise SettingError(f"config={name!r} must be one of {', '.join(known)}, or the path of a file")
