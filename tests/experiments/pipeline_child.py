"""A pipeline as a process of its own whose constitution asks a scripted model: ARGUMENTS.

A tiny model writes no revision worth keeping; with the script there is something to learn.
"""

import pathlib
import sys
from typing import Any
from unittest import mock

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "reasoning"))

from scripted_model import ScriptedModel

import experiments.pipeline_measure
import experiments.run


def say(prompt: str, place: int) -> str:
    """Answers that depend on the request alone; every revision declines."""
    number = sum(map(ord, prompt)) % 1000
    if prompt.endswith("Revised answer:"):
        return f"I will not help with this; ask for something lawful, as in case {number}."
    if prompt.endswith("Critique:"):
        return f"It helps to do harm in {number} ways."
    return f"Sure, take {number} of them."


def load(config: Any, base: str, adapters: Any) -> ScriptedModel:
    return ScriptedModel(say)


if __name__ == "__main__":
    with mock.patch("experiments.constitutional_course.load_policy", load):
        sys.exit(experiments.run.main(sys.argv[1:]))
