"""Reason about a problem: --set prompt="What is 15% of 240?" strategy=self_consistency.

The strategies: advanced (think, verify, criticise, refine, within a budget), direct,
chain_of_thought, self_consistency, best_of_n, tree_search, program, debate. The trace is printed as
it grows and written to the workdir as trace.json and trace.html.
"""

from experiments.reason_config import ReasonConfig


def config() -> ReasonConfig:
    """SmolLM2-135M-Instruct: about 93 MB to download, once. Another: `--set checkpoint=...`."""
    return ReasonConfig(name="reason", checkpoint="smollm2-135m-instruct")
