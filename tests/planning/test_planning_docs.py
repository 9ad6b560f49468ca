"""Every example of docs/planning.md runs, in order, as a reader would type it."""

import pathlib
import re

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "planning.md"


def test_examples_run(tmp_path, monkeypatch):
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) == 3
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for i, example in enumerate(examples):
        exec(compile(example, f"{PAGE.name}, example {i + 1}", "exec"), names)
    assert (tmp_path / "shop.svg").read_text().startswith("<svg")
