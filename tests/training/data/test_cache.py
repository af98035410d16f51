"""Laws of the tensor cache: whole or nothing, never stale, shared without a lock."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from wavshap_lightning.errors import CacheError
from wavshap_lightning.files import default_cache_directory
from wavshap_lightning.training.data.cache import (
    ABANDONED_AFTER_S,
    TensorCache,
)


def entry(seed):
    generator = torch.Generator().manual_seed(seed)
    return {"mean": torch.randn(3, 5, generator=generator), "count": torch.tensor([seed])}


def entries(*seeds):
    return {f"key/{seed}@None-None": entry(seed) for seed in seeds}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def run_python(program, *arguments, **options):
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, **options)


def test_what_is_written_is_read_by_the_writer_and_by_others(tmp_path):
    writer, reader = TensorCache(tmp_path), TensorCache(tmp_path)
    writer.write(entries(1, 2))
    writer.write(entries(3))
    reader.refresh()
    for cache in (writer, reader, TensorCache(tmp_path)):
        for key, expected in entries(1, 2, 3).items():
            assert key in cache
            assert_equal(cache.read(key), expected)


def test_views_of_a_batch_are_stored_as_they_look(tmp_path):
    batch = torch.arange(24.0).reshape(2, 3, 4)
    TensorCache(tmp_path).write({"a": {"x": batch[0].T}, "b": {"x": batch[1, :, 1:3]}})
    cache = TensorCache(tmp_path)
    assert torch.equal(cache.read("a")["x"], batch[0].T)
    assert torch.equal(cache.read("b")["x"], batch[1, :, 1:3])


def test_missing_keeps_the_order_and_names_each_key_once(tmp_path):
    cache = TensorCache(tmp_path)
    cache.write(entries(1))
    known = next(iter(entries(1)))
    assert cache.missing(["b", known, "a", "b"]) == ["b", "a"]


def test_an_unknown_key_is_an_error(tmp_path):
    with pytest.raises(CacheError, match="key='nobody' is not in cache"):
        TensorCache(tmp_path).read("nobody")


def test_nothing_to_write_writes_nothing(tmp_path):
    TensorCache(tmp_path).write({})
    assert not list(tmp_path.iterdir())


def test_equal_entries_make_one_shard(tmp_path):
    for _ in range(2):
        TensorCache(tmp_path).write(entries(1, 2))
    assert len(shards(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "emptied"])
def test_a_damaged_shard_is_set_aside_and_never_read(tmp_path, damage):
    TensorCache(tmp_path).write(entries(1))
    (shard,) = shards(tmp_path)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    damaged = {"truncated": content[:-10], "bit flipped": content, "emptied": b""}[damage]
    shard.write_bytes(damaged)
    with pytest.warns(UserWarning, match="is damaged"):
        cache = TensorCache(tmp_path)
    assert cache.missing(entries(1)) == list(entries(1))
    assert not shards(tmp_path)
    cache.write(entries(1))
    assert_equal(TensorCache(tmp_path).read(*entries(1)), entry(1))


def test_a_shard_that_vanishes_while_others_look_is_no_error(tmp_path, monkeypatch):
    TensorCache(tmp_path).write(entries(1))
    (shard,) = shards(tmp_path)
    seen = [shard]
    monkeypatch.setattr(type(tmp_path), "glob", lambda *_: iter(seen))
    shard.unlink()
    assert TensorCache(tmp_path).missing(entries(1)) == list(entries(1))


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, failing):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = TensorCache(tmp_path)
    cache.write(entries(1))
    owner = os if failing == "fsync" else type(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(owner, failing, refuse)
        with pytest.raises(CacheError, match=r"No space left.*0\.0 MB.*free some space.*WAVSHAP_CACHE"):
            cache.write(entries(2))
    assert len(list(tmp_path.iterdir())) == 1
    assert cache.missing(entries(1, 2)) == list(entries(2))
    cache.write(entries(2))
    assert not cache.missing(entries(1, 2))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be used"):
        TensorCache(tmp_path / "file" / "cache")


def test_a_kill_while_writing_leaves_nothing_half_readable(tmp_path):
    program = """
        import os, signal, sys
        from pathlib import Path
        import torch
        from wavshap_lightning.training.data.cache import TensorCache
        # The content is written, but neither on the disk nor under its name.
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        TensorCache(Path(sys.argv[1])).write({"key": {"x": torch.zeros(1000)}})
    """
    assert run_python(program, tmp_path).wait() == -9
    assert [path.suffix for path in tmp_path.iterdir()] == [".unfinished"]
    cache = TensorCache(tmp_path)
    assert "key" not in cache
    cache.write({"key": {"x": torch.ones(3)}})
    assert torch.equal(TensorCache(tmp_path).read("key")["x"], torch.ones(3))


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path):
    program = """
        import sys
        from pathlib import Path
        import torch
        from wavshap_lightning.training.data.cache import TensorCache
        cache = TensorCache(Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        for key in range(40):
            cache.refresh()
            if str(key) not in cache:
                cache.write({str(key): {"x": torch.full((50,), float(key))}})
        cache.refresh()
        print([float(cache.read(str(key))["x"].mean()) for key in range(40)])
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [run_python(program, tmp_path, **pipes) for _ in range(2)]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    answers = [run.communicate()[0].strip() for run in runs]
    assert answers == [str([float(key) for key in range(40)])] * 2
    assert [run.returncode for run in runs] == [0, 0]


def test_only_old_unfinished_files_are_removed(tmp_path):
    young, old, other = (tmp_path / name for name in ("a.unfinished", "b.unfinished", "c.txt"))
    for path in (young, old, other):
        path.write_text("")
    long_ago = time.time() - ABANDONED_AFTER_S - 60
    for path in (old, other):
        os.utime(path, (long_ago, long_ago))
    TensorCache(tmp_path)
    assert young.exists()
    assert other.exists()
    assert not old.exists()


def test_the_folder_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("WAVSHAP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / "wavshap-lightning"
    monkeypatch.setenv("WAVSHAP_CACHE", str(tmp_path / "mine"))
    assert default_cache_directory() == tmp_path / "mine"
    monkeypatch.delenv("WAVSHAP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / ".cache" / "wavshap-lightning"
