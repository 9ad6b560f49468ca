"""Write a model for others: a Hugging Face folder, or a GGUF file for llama.cpp.

python -m experiments.export --from runs/pretrain_nano --to nano-hf
python -m experiments.export --from runs/pretrain_nano --to nano.gguf --dtype q8_0
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Literal

from lilith.config import UserError, nearest

# What may be asked for, as the Hugging Face folder and the GGUF file call it.
DTYPES: dict[str, tuple[str | None, Literal["f32", "f16", "bf16", "q8_0"]]] = {
    "float32": ("float32", "f32"),
    "bfloat16": ("bfloat16", "bf16"),
    "float16": ("float16", "f16"),
    "q8_0": (None, "q8_0"),
}
SHORT = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "q8_0": 34 / 32}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code is 0, or 2 with one sentence on stderr, or 130 (Ctrl-C)."""
    options = _parser().parse_args(arguments)
    try:
        export(options.source, options.to, options.dtype, options.step)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; nothing was written", file=sys.stderr)
        return 130
    return 0


def export(source: str, to: str, dtype: str | None = None, step: int | None = None) -> None:
    """Read the model at ``source`` and write it to ``to``, a ``.gguf`` file or a folder.

    Args:
      source: whatever :func:`lilith.load_checkpoint` loads.
      dtype: float32, bfloat16, float16 (or f32, bf16, f16), and q8_0 for GGUF; None: as stored.
      step: which checkpoint of a run; None: the newest.

    Raises:
      UserError: the model can not be read, or not be written so; nothing is left at ``to`` then.
    """
    target = pathlib.Path(to).expanduser()
    as_gguf = target.suffix == ".gguf"
    asked = None if dtype is None else _checked(SHORT.get(dtype, dtype), as_gguf)
    if target.exists() and (as_gguf or not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--to {target} exists already; name another, or remove it")
    from lilith.interop.gguf import write_gguf
    from lilith.interop.huggingface import write_huggingface
    from lilith.interop.load import load_model
    from lilith.interop.progress import growth_bar
    from lilith.interop.weights import partial_path

    params, config, tokenizer, info = load_model(source, step=step)
    print(info)
    stored = asked or _checked(config.param_dtype, as_gguf)
    size = round(info.parameters * BYTES[stored])
    with growth_bar(f"writing {target} in {stored}", partial_path(target.absolute()), size):
        if as_gguf:
            notes = write_gguf(
                target, params, config, tokenizer, dtype=DTYPES[stored][1],
                chat_template=info.chat_template, stop_ids=info.stop_ids, name=info.name,
            )  # fmt: skip
        else:
            notes = write_huggingface(
                target, params, config, tokenizer, dtype=DTYPES[stored][0],
                chat_template=info.chat_template, stop_ids=info.stop_ids,
            )  # fmt: skip
    for note in notes:
        print(f"note: {note}")
    print(f"{target} is written; {_use(target, as_gguf)}")


def _checked(dtype: str, as_gguf: bool) -> str:
    known = [name for name, (folder, _) in DTYPES.items() if as_gguf or folder]
    if dtype not in known:
        kind = "a GGUF file" if as_gguf else "a Hugging Face folder (no .gguf at the end of --to)"
        raise UserError(
            f"--dtype is {dtype!r}{nearest(dtype, known)}; {kind} has one of {', '.join(known)}"
        )
    return dtype


def _use(target: pathlib.Path, as_gguf: bool) -> str:
    if as_gguf:
        return f"llama.cpp runs it: llama-cli -m {target}"
    return f"transformers opens it: AutoModelForCausalLM.from_pretrained({str(target)!r})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.export",
        description="Write a model as a Hugging Face folder or as a GGUF file.",
    )
    parser.add_argument(
        "--from", dest="source", metavar="WHERE", required=True,
        help="a run's folder or a checkpoint in it, a .gguf, a Hugging Face folder, or a name",
    )  # fmt: skip
    parser.add_argument(
        "--to", metavar="PATH", required=True, help="NAME.gguf, or a folder that does not exist yet"
    )
    parser.add_argument(
        "--dtype", metavar="TYPE",
        help="float32, bfloat16, float16; q8_0 for GGUF (default: as the weights are stored)",
    )  # fmt: skip
    parser.add_argument("--step", type=int, help="which checkpoint of a run (default: the newest)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
