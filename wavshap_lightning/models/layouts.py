"""Folders of other programs: how to recognize one, and the step after which its model can be opened."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import filter as matching
from pathlib import Path

ADAPTER = "a LoRA adapter; load it on its model with peft, call merge_and_unload() and save the whole model"
OWN_CLASSES = (
    "whose classes are not read; train a head with python train.py fit, on its backbone if transformers can "
    "open it"
)
CONVERTED = "give the model it was converted from, as transformers saves it"
NO_CONFIG = "weights alone; the folder needs config.json and model.safetensors, as transformers saves them"
POINTER = b"version https://git-lfs"
PICKLED = "pickled Python, which is never opened; save the model with save_pretrained(FOLDER)"

# By the name of a file or folder in it; of several the first counts.
PROGRAMS = {
    "adapter_config.json": ADAPTER,
    "hyperparams.yaml": "a SpeechBrain model; only a wav2vec2.ckpt with a linear layer in model.ckpt is read",
    "configuration.json": f"a FunASR model, such as emotion2vec, {OWN_CLASSES}",
    "emotion2vec*": f"an emotion2vec model, {OWN_CLASSES}",
    "dev-*.ckpt": f"a run of s3prl, {OWN_CLASSES}",
    "states-*.ckpt": f"a run of s3prl, {OWN_CLASSES}",
    "exp*.ini": f"an experiment of nkululeko, {OWN_CLASSES}",
    "*.nemo": f"a NeMo model, {OWN_CLASSES}",
}
# Those that may stand beside a model of transformers.
FORMATS = {
    "models--*": "the cache of the Hub; give the name on the Hub (user/name), or a folder in snapshots",
    "snapshots/*": "a model in the cache of the Hub; give its folder {found}",
    "checkpoint-*": "the output of a Trainer of transformers; give one of its checkpoints, such as {found}",
    "tf_model.h5": f"a TensorFlow model; {CONVERTED}, or convert it with from_tf=True of transformers 4",
    "flax_model.msgpack": f"a Flax model; {CONVERTED}, or convert it with from_flax=True of transformers 4",
    "saved_model.pb": f"a TensorFlow model; {CONVERTED}",
    "*.h5": f"a Keras model; {CONVERTED}",
    "*.keras": f"a Keras model; {CONVERTED}",
    "*.tflite": f"a TensorFlow Lite model; {CONVERTED}",
    "*.onnx": f"an ONNX model; {CONVERTED}",
    "onnx": f"an ONNX model; {CONVERTED}",
    "*.gguf": f"a GGUF model; {CONVERTED}",
    "*.pkl": PICKLED,
    "*.joblib": PICKLED,
    "*.safetensors": NO_CONFIG,
    "*.bin": NO_CONFIG,
}


def recognize(names: Collection[str], *, formats: bool = True) -> str | None:
    """The layout of a folder, as the end of a sentence; None if it is not known.

    Args:
        names: Files and folders in it, with those in `snapshots`.
        formats: Look for the formats too, unless a model of transformers is there.

    >>> recognize(["checkpoint-90", "checkpoint-600"])
    'the output of a Trainer of transformers; give one of its checkpoints, such as checkpoint-600'
    """
    complete = "config.json" in names and any(matching(names, "*.safetensors") + matching(names, "*.bin"))
    for pattern, words in (PROGRAMS if complete or not formats else PROGRAMS | FORMATS).items():
        if found := matching(names, pattern):
            return words.format(found=max(found, key=lambda name: (len(name), name)))
    return None


def names_in(folder: Path) -> list[str]:
    """Names of the files and folders in a folder, and of those in its `snapshots`."""
    found = [*folder.glob("*"), *folder.glob("snapshots/*")]
    return [path.relative_to(folder).as_posix() for path in found]


def is_pointer(path: Path) -> bool:
    """True for what git leaves in place of a large file without Git LFS."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER
