"""A content-addressed store of tensors that is never half written and never stale.

Entries are keyed by what they were computed from; the caller puts everything that matters into
the key. They lie in safetensors shards whose file name is the digest of their bytes. A shard appears by one
atomic rename, so a reader sees all of it or nothing, and two runs may share a folder without a lock.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wavshap_lightning.errors import CacheError
from wavshap_lightning.files import write_atomically

SHARD_SUFFIX = ".safetensors"
UNFINISHED_SUFFIX = ".unfinished"  # as write_atomically names what is not yet whole
DAMAGED_SUFFIX = ".damaged"
ABANDONED_AFTER_S = 24 * 3600


class TensorCache:
    """A cache on disk of named tensors, found by key.

    Args:
        directory: Folder of the shards; made if it does not exist.

    Raises:
        CacheError: If the folder cannot be made or read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._entries: dict[str, dict[str, Any]] = {}  # the open shard of each tensor, by key and name
        self._opened: set[Path] = set()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(directory)
        except OSError as error:
            raise self._unusable(error) from error
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those keys without an entry, each once, in the order given."""
        return [key for key in dict.fromkeys(keys) if key not in self]

    def refresh(self) -> None:
        """Take in the shards that were written since, by anyone; set damaged ones aside.

        Raises:
            CacheError: If the folder cannot be read.
        """
        for path in sorted(self.directory.glob(f"*{SHARD_SUFFIX}")):
            if path not in self._opened:
                self._take_in(path)

    def read(self, key: str) -> dict[str, Tensor]:
        """The entry of `key`.

        Raises:
            CacheError: If there is none.
        """
        if key not in self:
            raise CacheError(f"key={key!r} is not in cache={self.directory}; refresh it or compute the entry")
        return {name: shard.get_tensor(f"{key}/{name}") for name, shard in self._entries[key].items()}

    def write(self, entries: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Store entries as one shard.

        Raises:
            CacheError: If the disk is full or read-only; nothing half written stays behind.
        """
        if not entries:
            return
        tensors = {f"{key}/{name}": t for key, entry in entries.items() for name, t in entry.items()}
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        path = self.directory / (hashlib.sha256(content).hexdigest() + SHARD_SUFFIX)
        try:
            write_atomically(path, content)
        except OSError as error:
            raise self._unusable(error, needed_bytes=len(content)) from error
        self._take_in(path)

    def _take_in(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                is_whole = hashlib.file_digest(file, "sha256").hexdigest() == path.stem
            if not is_whole:
                path.rename(path.with_suffix(DAMAGED_SUFFIX))
                found = f"cache: shard {path} is damaged (its bytes do not match its name)"
                warnings.warn(f"{found}; it was set aside, and is computed again", stacklevel=3)
                return
            shard: Any = safe_open(path, framework="pt")  # mapped into memory, and read by page
        except FileNotFoundError:
            return  # another run set it aside a moment ago
        except (OSError, SafetensorError) as error:
            raise self._unusable(error) from error
        self._opened.add(path)
        for full_name in shard.keys():  # noqa: SIM118 - not a dict
            key, _, name = full_name.rpartition("/")
            self._entries.setdefault(key, {})[name] = shard

    def _unusable(self, error: Exception, *, needed_bytes: int = 0) -> CacheError:
        reason = getattr(error, "strerror", None) or error
        size = f" ({needed_bytes / 1e6:.1f} MB were to be written)" if needed_bytes else ""
        return CacheError(
            f"cache_dir={self.directory} cannot be used: {reason}{size}; free some space, or name "
            "another folder with data.cache_dir, the variable WAVSHAP_CACHE, or of a study out. Finished "
            "entries are kept"
        )


def _remove_abandoned(directory: Path) -> None:
    """Remove what a killed run left unfinished long ago; younger files may still be in the making."""
    for path in directory.glob(f"*{UNFINISHED_SUFFIX}"):
        with suppress(FileNotFoundError):  # another run was faster, or has just finished it
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                path.unlink()
