"""A content-addressed store of tensors that is never half written and never stale.

Entries are keyed by what they were computed from; the caller puts everything that matters into
the key. They lie in safetensors shards whose file name is the digest of their bytes. A shard appears by one
atomic rename, so a reader sees all of it or nothing, and two runs may share a folder without a lock.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wavshap_lightning.errors import CacheError

SHARD_SUFFIX = ".safetensors"
UNFINISHED_SUFFIX = ".unfinished"
DAMAGED_SUFFIX = ".damaged"
ABANDONED_AFTER_S = 24 * 3600


def default_cache_directory() -> Path:
    """`$WAVSHAP_CACHE`, else `$XDG_CACHE_HOME/wavshap-lightning`, else `~/.cache/wavshap-lightning`."""
    chosen = os.environ.get("WAVSHAP_CACHE")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "wavshap-lightning"


class TensorCache:
    """Named tensors by key.

    Args:
        directory: Where the shards lie; made if it is not there.

    Raises:
        CacheError: If the folder cannot be made or read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._shard_of: dict[str, Path] = {}
        self._known_shards: set[Path] = set()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(directory)
        except OSError as error:
            raise _cannot_use(directory, error) from error
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._shard_of

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those keys without an entry, each once, in the order given."""
        return [key for key in dict.fromkeys(keys) if key not in self]

    def refresh(self) -> None:
        """Take in the shards that were written since, by anyone; set damaged ones aside."""
        for path in sorted(self.directory.glob(f"*{SHARD_SUFFIX}")):
            if path not in self._known_shards:
                self._take_in(path)

    def read(self, key: str) -> dict[str, Tensor]:
        """The entry of `key`.

        Raises:
            CacheError: If there is none, or its shard vanished.
        """
        if key not in self:
            raise CacheError(f"key={key!r} is not in cache={self.directory}; refresh it or compute the entry")
        try:
            with safe_open(self._shard_of[key], framework="pt") as shard:
                names = (name for name in shard.keys() if _key_of(name) == key)  # noqa: SIM118 - not a dict
                return {name.rpartition("/")[2]: shard.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"cache={self.directory} lost a shard while it was in use ({error}); run again"
            ) from error

    def write(self, entries: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Store entries as one shard.

        Raises:
            CacheError: If the disk is full or read-only; nothing half written stays behind.
        """
        if not entries:
            return
        tensors = {
            f"{key}/{name}": t.contiguous() for key, entry in entries.items() for name, t in entry.items()
        }
        content = save(tensors)
        path = self.directory / (hashlib.sha256(content).hexdigest() + SHARD_SUFFIX)
        try:
            _write_atomically(path, content)
        except OSError as error:
            raise _cannot_use(self.directory, error, needed_bytes=len(content)) from error
        self._known_shards.add(path)
        self._shard_of.update(dict.fromkeys(entries, path))

    def _take_in(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == path.stem
        except FileNotFoundError:
            return  # another run set it aside a moment ago
        except OSError as error:
            raise _cannot_use(self.directory, error) from error
        if not whole:
            _set_aside(path)
            return
        with safe_open(path, framework="pt") as shard:
            self._shard_of.update({_key_of(name): path for name in shard.keys()})  # noqa: SIM118 - not a dict
        self._known_shards.add(path)


def _key_of(name: str) -> str:
    return name.rpartition("/")[0]


def _write_atomically(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.stem}-{os.getpid()}{UNFINISHED_SUFFIX}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _set_aside(path: Path) -> None:
    warnings.warn(
        f"cache: shard {path} is damaged (its bytes do not match its name); it was set aside, and what "
        "it held will be computed again",
        stacklevel=4,
    )
    try:
        path.rename(path.with_suffix(DAMAGED_SUFFIX))
    except FileNotFoundError:
        return  # another run was faster


def _remove_abandoned(directory: Path) -> None:
    """Remove what a killed run left unfinished long ago; younger files may still be in the making."""
    for path in directory.glob(f"*{UNFINISHED_SUFFIX}"):
        if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
            path.unlink(missing_ok=True)


def _cannot_use(directory: Path, error: OSError, needed_bytes: int = 0) -> CacheError:
    size = f" ({needed_bytes / 1e6:.1f} MB were to be written)" if needed_bytes else ""
    return CacheError(
        f"cache_dir={directory} cannot be used: {error.strerror or error}{size}; free some space, or name "
        "another folder with data.cache_dir or the variable WAVSHAP_CACHE. What was finished is kept"
    )
