"""What a path or a name of a model stands for: found, and told from what is none."""

from __future__ import annotations

import os
import pathlib

from etils import epath

from lilith.interop.hub import find_model, is_hub_name
from lilith.interop.huggingface import CONFIG_FILE
from lilith.interop.huggingface_config import read_json
from lilith.interop.safetensors_folder import PICKLES, refusal_of_pickle
from lilith.interop.weights import ImportFailed
from lilith.storage import at_the_top, in_words, is_local, remote, sizes
from lilith.train.lora import is_adapter

Where = str | os.PathLike[str]
ACCEPTED = (
    "a run's folder or its checkpoints, a .gguf file, a Hugging Face folder (config.json, "
    "safetensors, tokenizer.json), or a name"
)


def locate(where: Where) -> tuple[str, str, str | None]:
    """The kind of model at ``where``, its path, and its name if it was found by one.

    Kinds are ``lilith``, ``gguf``, ``huggingface``, ``adapter``, and ``bucket``: one of the latter
    three in a bucket, to be copied here and looked at again.

    Raises:
      ImportFailed: nothing that LILITH can load is there.
      StorageError: it is in a bucket that can not be read.
    """
    text = os.fspath(where)
    if not is_local(text):
        return _kind_in_bucket(remote(text)), text, None
    path = pathlib.Path(text).expanduser()
    if text and path.exists():
        kind, path = _kind_of(path)
        return kind, str(path), None
    # org/name is a name where no folder org is: with one, the path has a mistake in it.
    named = is_hub_name(text) and not path.parent.exists()
    if not named and (
        isinstance(where, pathlib.PurePath)
        or not text
        or text.startswith(("~", "."))
        or {"/", os.sep} & set(text)
        or path.suffix in (".gguf", *PICKLES)
    ):
        raise ImportFailed(f"there is nothing at {text!r}; LILITH loads {ACCEPTED}")
    kind, path = _kind_of(find_model(text))
    return kind, str(path), text


def _kind_in_bucket(path: epath.Path) -> str:
    """``lilith`` for a run and its checkpoints, ``bucket`` for files of other kinds."""
    with in_words(path, "read"):
        names = list(sizes(path))
        if not names and not path.exists():
            raise ImportFailed(f"there is nothing at {path}; LILITH loads {ACCEPTED}")
    others = (".gguf", ".safetensors", *PICKLES)
    copied = not names or any(at_the_top(name) and name.endswith(others) for name in names)
    return "bucket" if copied else "lilith"


def _kind_of(path: pathlib.Path) -> tuple[str, pathlib.Path]:
    """What an existing path holds, and the path to read it from."""
    if path.is_file():
        if path.suffix in PICKLES:
            raise ImportFailed(refusal_of_pickle(path.parent, path.name))
        if path.suffix == ".safetensors" or path.name == CONFIG_FILE:
            raise ImportFailed(f"{path} is one file of a model; name its folder, {path.parent}")
        return "gguf", path  # whatever it is called, its first bytes say whether it is one
    if is_adapter(path):
        return "adapter", path
    if (path / "reward.json").is_file():
        raise ImportFailed(refusal_of_reward(path))
    if (path / "checkpoints").is_dir() or (path / "manifest.json").is_file():
        return "lilith", path
    if (path / CONFIG_FILE).is_file() and "model_type" in read_json(path / CONFIG_FILE):
        return "huggingface", path
    if any(child.is_dir() and child.name.isdecimal() for child in path.iterdir()):
        return "lilith", path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return "gguf", files[0]
    if files:
        raise ImportFailed(
            f"{path} holds {len(files)} GGUF files; name one: {', '.join(f.name for f in files)}"
        )
    if any(child.suffix in (".safetensors", *PICKLES) for child in path.iterdir()) or any(
        (path / name).is_file() for name in (CONFIG_FILE, "adapter_config.json")
    ):
        return "huggingface", path  # whose reader says what is missing
    raise ImportFailed(f"{path} holds no model; LILITH loads {ACCEPTED}")


def refusal_of_reward(where: object) -> str:
    """The sentence on a reward model where one that writes is asked for."""
    return (
        f"{where} is a reward model, which scores texts and writes none; lilith.interop."
        "reward_model.load_reward_model reads the folder reward_model of its run"
    )
