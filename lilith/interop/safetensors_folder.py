"""The weights of a Hugging Face folder: safetensors, in one file or in several with an index."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

from lilith.config import ModelConfig
from lilith.interop.huggingface_config import read_json
from lilith.interop.weights import ImportFailed, export_tensors, file_tensors
from lilith.model.params import Params

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# The types that LILITH reads, by their names in safetensors; the later one holds the earlier ones.
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


class SafetensorsFolder:
    """The tensors of a folder's safetensors files, of one or of several with an index.

    Raises:
      ImportFailed: there are none, one is missing or damaged, or there are pickles in their place.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.where = str(folder)
        self.files: list[pathlib.Path] = []
        self._homes: dict[str, pathlib.Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, str] = {}
        indexed = None if (folder / WEIGHTS_FILE).is_file() else _indexed(folder)
        self.files = [_single_file(folder)] if indexed is None else sorted(set(indexed.values()))
        for path in self.files:
            with _open(path) as file:
                for name in file.keys():  # noqa: SIM118  (no dict: it has no other iteration)
                    if (indexed or {}).get(name, path) != path:
                        continue  # a second copy, which the index does not mean
                    part = file.get_slice(name)
                    self._homes[name] = path
                    self._shapes[name] = tuple(part.get_shape())
                    self._dtypes[name] = part.get_dtype()
        for name, path in (indexed or {}).items():
            if name not in self._homes:
                raise ImportFailed(
                    f"{folder / INDEX_FILE} says that {path.name} holds the tensor {name!r}, and "
                    "it does not; the files do not belong together, so fetch them again"
                )

    def names(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor by its name."""
        return self._shapes

    def read(self, name: str) -> np.ndarray:
        """One tensor, as it is stored; its file is open for no longer than that."""
        with _open(self._homes[name]) as file:
            return file.get_tensor(name)

    def dtype(self) -> str:
        """The one type that holds every weight's values exactly.

        Raises:
          ImportFailed: a tensor is of a type that LILITH does not read, as of quantised weights.
        """
        used = set(self._dtypes.values())
        for name, kind in self._dtypes.items():
            if kind not in DTYPES:
                raise ImportFailed(
                    f"{self._homes[name]}: the tensor {name!r} has the type {kind}; LILITH reads "
                    f"{', '.join(DTYPES)}"
                )
        return DTYPES[used.pop()] if len(used) == 1 else "float32"


def write_safetensors(
    folder: pathlib.Path, params: Params, config: ModelConfig, dtype: Any, shard_bytes: float
) -> None:
    """Write every weight as ``dtype`` (a numpy type), in files of at most ``shard_bytes``.

    Raises:
      ImportFailed: a weight does not fit the type.
    """
    shards = _shards(config, dtype.itemsize, shard_bytes)
    tensors = export_tensors(params, config, "huggingface")
    homes: dict[str, str] = {}
    total = 0
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        file = WEIGHTS_FILE if len(shards) == 1 else file
        content = {}
        for _ in names:
            name, array = next(tensors)
            content[name] = _cast(name, array, dtype)
            homes[name] = file
            total += content[name].nbytes
        save_file(content, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(folder.stat().st_mode & 0o666)  # the library's are private
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": homes}
        write_json(folder / INDEX_FILE, index)


def _shards(config: ModelConfig, itemsize: int, shard_bytes: float) -> list[list[str]]:
    """The names of each file's tensors, in order; a tensor larger than a file has one alone."""
    shards: list[list[str]] = []
    room = 0.0
    for name, tensor in file_tensors(config, "huggingface").items():
        size = int(np.prod(tensor.shape)) * itemsize
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _cast(name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype == np.float16 and not np.isfinite(cast).all() and np.isfinite(array).all():
        raise ImportFailed(
            f"the weight {name!r} holds {np.abs(array).max():.3g}, more than float16 can "
            "(65504); write bfloat16 or float32"
        )
    return cast


def _indexed(folder: pathlib.Path) -> dict[str, pathlib.Path] | None:
    """The file of every tensor, from the index; None without one."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return None
    homes = read_json(path).get("weight_map")
    if not isinstance(homes, dict) or not homes:
        raise ImportFailed(f"{path} has no 'weight_map', which names the file of every tensor")
    for name, file in homes.items():
        if not isinstance(file, str) or file in ("", "..") or pathlib.PurePath(file).name != file:
            raise ImportFailed(f"{path}: the tensor {name!r} is in {file!r}, which names no file")
        if not (folder / file).is_file():
            count = sum(other == file for other in homes.values())
            raise ImportFailed(
                f"{path} names {file!r}, which is not in {folder} ({count} tensors are in it); "
                "fetch that file"
            )
    return {name: folder / file for name, file in homes.items()}


def _single_file(folder: pathlib.Path) -> pathlib.Path:
    if (folder / WEIGHTS_FILE).is_file():
        return folder / WEIGHTS_FILE
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others[0]
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles and not others:
        raise ImportFailed(refusal_of_pickle(folder, pickles[0]))
    found = ", ".join(file.name for file in others) or "none"
    raise ImportFailed(
        f"{folder} has no {WEIGHTS_FILE} and no {INDEX_FILE} (safetensors files there: {found}); "
        "fetch the weights"
    )


def refusal_of_pickle(folder: pathlib.Path, name: str) -> str:
    """Why a pickle is not read, and what makes safetensors of it."""
    return (
        f"{folder / name} is a pickle, which can run any program when it is opened, so LILITH does "
        "not read it; use the model's safetensors, or make them where the file is trusted: "
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"M.from_pretrained('{folder}').save_pretrained('OUT'); "
        f"T.from_pretrained('{folder}').save_pretrained('OUT')\""
    )


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, safetensors.SafetensorError) as error:
        raise ImportFailed(
            f"{path} can not be read as safetensors, it is damaged or cut short ({error}); fetch "
            "it again"
        ) from None


def write_json(path: pathlib.Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
