"""Which parts of a text a SentencePiece tokenizer has no token for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ttscommon.errors import UserError


def unknown_pieces(model: Path) -> Callable[[str], list[str]]:
    """A function from a text to its unknown pieces.

    Some systems tokenize in capitals, so a text counts as known if its capitals are.

    Raises:
        UserError: if `model` isn't a SentencePiece model
    """
    import sentencepiece

    if not model.is_file():
        raise UserError("no such tokenizer", where=model, fix="--tokenizer checkpoints/bpe.model")
    try:
        tokenizer = sentencepiece.SentencePieceProcessor()
        tokenizer.load(str(model))
    except (OSError, RuntimeError) as error:
        raise UserError("not a SentencePiece model", where=model) from error

    def unknown(text: str) -> list[str]:
        return min((_unknown(tokenizer, form) for form in (text, text.upper())), key=len)

    return unknown


def _unknown(tokenizer, text: str) -> list[str]:
    pieces = tokenizer.encode(text, out_type=str)
    ids = tokenizer.encode(text, out_type=int)
    strange = tokenizer.unk_id()
    return [piece.strip("▁") for piece, i in zip(pieces, ids, strict=True) if i == strange]
