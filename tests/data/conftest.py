"""A small source tree and the corpora prepared from it."""

import random

import pytest

from lilith.config import DataConfig, SourceConfig
from lilith.data import prepare
from lilith.tokenizer import ByteTokenizer

WORDS = ["def", "return", "self", "value", "for", "in", "range", "class", "import", "list", "None"]


def write_tree(root, files: int, seed: int = 0, words: int = 120) -> None:
    """Python-like files of random words, no two alike, of very different lengths."""
    draw = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        count = draw.randint(1, words)
        lines = [" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(count)]
        (root / f"file{seed}_{i:03}.py").write_text(f"# file {seed} {i}\n" + "\n".join(lines))


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    write_tree(root / "a", 60, seed=1)
    write_tree(root / "b", 40, seed=2)
    return root


@pytest.fixture(scope="session")
def config(tree) -> DataConfig:
    return DataConfig(
        sources=(
            SourceConfig(name="a", kind="code", path=str(tree / "a"), weight=3.0),
            SourceConfig(name="b", kind="code", path=str(tree / "b"), weight=1.0),
        ),
        length=64,
        validation_fraction=0.2,
    )


@pytest.fixture(scope="session")
def corpus(config, tmp_path_factory):
    return prepare(config, ByteTokenizer(), cache=tmp_path_factory.mktemp("cache"))
