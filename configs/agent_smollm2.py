"""An agent with tools in the terminal: prices, plans, runs code. --set model=PATH role=NAME.

One answer and out: --set prompt="Price a call: S=100, K=105, T=0.5, r=0.05, vol=0.2"; for scripts
json=true, or lines in a pipe. Roles: quant_dev, project_manager, 10x_engineer, hybrid_quant_pm.
/help lists the commands; docs/agent.md tells the rest.
"""

from experiments.agent_config import AgentConfig


def config() -> AgentConfig:
    """SmolLM2-135M-Instruct: about 93 MB to download, once; or `model=runs/sft_smollm2`."""
    return AgentConfig(name="agent_smollm2", model="smollm2-135m-instruct")
