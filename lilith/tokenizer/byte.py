"""Raw bytes as tokens: nothing to train, nothing lost, long sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lilith.tokenizer.base import BOS, CHAT_TOKENS, EOS, PAD, TableTokenizer


class ByteTokenizer(TableTokenizer):
    """Ids 0 to 255 are the bytes of UTF-8 text; the special tokens follow."""

    kind = "bytes"

    def __init__(self) -> None:
        special = {text: 256 + i for i, text in enumerate((BOS, EOS, PAD, *CHAT_TOKENS))}
        pieces = [bytes([value]) for value in range(256)] + [b""] * len(special)
        super().__init__(pieces, special, bos=special[BOS], eos=special[EOS], pad=special[PAD])

    def _encode_text(self, text: str) -> list[int]:
        return list(text.encode())

    def _encode_texts(self, texts: list[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]

    def _model_bytes(self) -> bytes:
        return b""

    def _save_model(self, directory: Path) -> None:
        """Nothing is learnt."""
