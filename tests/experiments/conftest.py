"""One tiny corpus and one undisturbed run of it, for all tests of runs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from functools import partial

import jax
import pytest
from tiny_run import Output, Tiny, make_tiny

import experiments.pretrain
import experiments.run
from lilith.sharding import make_mesh


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The corpus and the config; the cache holds the prepared corpus after the first run."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def reference(tiny: Tiny) -> pathlib.Path:
    """The folder of a run that nothing disturbed; do not change it."""
    workdir = tiny.folder / "reference"
    (tiny.folder / "reference.out").write_text(tiny.run("--workdir", workdir).out)
    return workdir


@pytest.fixture
def run_here(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Output]]:
    """The command line within this process, on the first device: its exit code and output."""
    for name, value in tiny.environment().items():
        monkeypatch.setenv(name, value)
    one = partial(make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(experiments.pretrain, "make_mesh", one)

    def run(*arguments: object, config: object = None) -> tuple[int, Output]:
        words: Sequence[str] = [
            str(word) for word in ("--config", config or tiny.config, *arguments)
        ]
        capfd.readouterr()
        code = experiments.run.main(words)
        return code, Output(*capfd.readouterr())

    return run


@pytest.fixture
def talking(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Callable[..., tuple[int, Output]]]:
    """(config, load) -> the command line of a conversation whose checkpoints ``load`` makes up."""
    import lilith.interop

    def of(config: str, load: object) -> Callable[..., tuple[int, Output]]:
        monkeypatch.setattr(lilith.interop, "load_checkpoint", load, raising=False)

        def run(*arguments: str) -> tuple[int, Output]:
            capfd.readouterr()
            code = experiments.run.main(["--config", config, *arguments])
            return code, Output(*capfd.readouterr())

        return run

    return of
