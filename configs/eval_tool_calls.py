"""Tool-call accuracy on 200 held-out questions: --set checkpoint=runs/sft_smollm2.

Questions in words and about numbers that `--config make_instructions` never writes into training
files. An answer is right if it calls the right tool with every argument right. A few minutes on
two cores for a model of 135M parameters.
"""

from experiments.evaluate_config import EvaluateConfig


def config() -> EvaluateConfig:
    """Greedy answers; the seed differs from that of the training files."""
    return EvaluateConfig(name="eval_tool_calls", count=200, seed=1_000)
