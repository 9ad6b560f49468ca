"""Chat with SmolLM2-135M-Instruct in the terminal: about 93 MB to download, once.

Ask once with `--set prompt="What is the capital of France?"`, or pipe questions in, one a line. For
another model `--set checkpoint=...`: a name, a .gguf, a Hugging Face folder, a run of LILITH.
"""

from experiments.chat_config import ChatConfig


def config() -> ChatConfig:
    """Greedy: with 135M parameters in 4 bits, second choices are rarely as good as the first.

    For variety `--set temperature=0.7 top_p=0.9 seed=1`.
    """
    return ChatConfig(
        name="chat_smollm2", checkpoint="smollm2-135m-instruct", temperature=0.0, max_tokens=512
    )
