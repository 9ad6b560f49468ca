"""Every example of docs/quant.md and docs/quant/ runs, in order, as a reader would type it."""

import pathlib
import re

import pytest

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS / "quant.md", *sorted((DOCS / "quant").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    examples = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert examples, f"{page} has no example"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for i, example in enumerate(examples):
        exec(compile(example, f"{page.name}, example {i + 1}", "exec"), names)
