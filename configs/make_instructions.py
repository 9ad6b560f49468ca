"""Write generated conversations for a quant assistant: 60% code, 20% quant, 10% plans, 10% talk.

`--set count=2000 domains.code=0 domains.general=0` writes quant and planning only, `--set
kinds=quant_frontier=3,quant_concept=0` weighs kinds within their domain (`kinds=*=0,plan_*=1`
leaves those that begin so), `--dry-run` prints a few.
"""

from experiments.instructions_config import InstructionsConfig


def config() -> InstructionsConfig:
    """10,000 for training and 500 in held-out words about held-out numbers."""
    return InstructionsConfig(name="make_instructions", count=10_000, held_out_count=500, seed=0)
