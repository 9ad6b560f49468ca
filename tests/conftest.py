"""Eight pretended CPU devices, one compilation cache and no network for every test."""

import os
import pathlib
import sys
from collections.abc import Iterator

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest
from fake_bucket import FakeBucket

jax.config.update("jax_num_cpu_devices", 8)
CACHE = pathlib.Path(__file__).resolve().parent.parent / ".cache" / "jax-tests"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


MAPPINGS = pathlib.Path("/proc/self/maps")
MOST_MAPPINGS = 15_000


@pytest.fixture(scope="module", autouse=True)
def _few_compiled_programs() -> Iterator[None]:
    """Let compiled programs go, now and then, after a module.

    Each holds half a dozen mappings of memory or more, and Linux gives a process 65,530: the whole
    suite compiles enough to reach that, and the next compilation then ends in a segmentation fault.
    """
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def lilith_data() -> pathlib.Path:
    """The folder of optional test data; tests that need it are skipped without it."""
    folder = os.environ.get("LILITH_DATA")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("LILITH_DATA is unset: this test reads optional data")
    return pathlib.Path(folder)


def _libtpu_of_make() -> pathlib.Path | None:
    """The TPU compiler where ``make test`` puts it: beside the packages, on no path."""
    found = (pathlib.Path(sys.prefix) / "tpu").glob("lib/python*/site-packages/libtpu/libtpu.so")
    return next(found, None)


@pytest.fixture
def libtpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The TPU compiler, for this test and the processes it starts."""
    from lilith.pods.topologies import libtpu_is_installed

    own = _libtpu_of_make()
    if own is not None and "TPU_LIBRARY_PATH" not in os.environ:
        monkeypatch.setenv("TPU_LIBRARY_PATH", str(own))
    if not libtpu_is_installed():
        pytest.skip("libtpu is not installed: make .venv/installed-tpu-compile")


@pytest.fixture(scope="session")
def smollm2() -> pathlib.Path:
    """SmolLM2-135M-Instruct as GGUF: where LILITH_SMOLLM2 says, or in the user's cache."""
    from lilith.interop.hub import place_of

    named = os.environ.get("LILITH_SMOLLM2")
    path = pathlib.Path(named) if named else place_of("smollm2-135m-instruct")
    if path is None or not path.is_file():
        pytest.skip("no SmolLM2 here: set LILITH_SMOLLM2 to its GGUF, or load it once by its name")
    return path


@pytest.fixture(scope="session")
def _bucket_server() -> Iterator[FakeBucket]:
    """One for all tests: TensorStore may read the address once."""
    with FakeBucket() as bucket, pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.environment().items():
            patch.setenv(name, value)
        yield bucket


@pytest.fixture
def bucket(_bucket_server: FakeBucket) -> FakeBucket:
    """The empty bucket gs://tests, of a server on this machine."""
    _bucket_server.objects.clear()
    _bucket_server.refused.clear()
    _bucket_server.calls.clear()
    return _bucket_server
