"""Text -> SentencePiece ids of the official `bpe.model`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from indextts.frontend.normalizer import Normalizer
from ttscommon.errors import UserError

# Scripts written without spaces, full-width punctuation up to U+303F among them.
CJK = re.compile(
    "([\u1100-\u11ff\u2e80-\ua4cf\ua840-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff65-\uffdc"
    "\U00020000-\U0002ffff])"
)


def spaced(text: str, *, upper: bool = True) -> str:
    """One space around every CJK character, the rest in capitals: the form that was trained on."""
    pieces = (piece.strip() for piece in CJK.split(text.strip()))
    return " ".join(piece.upper() if upper else piece for piece in pieces if piece)


class TextTokenizer:
    """Normalise, space, cut into pieces.

    Args:
        path: a SentencePiece model
        normalizer: default one with wetext and no glossary
    """

    def __init__(self, path: Path, normalizer: Normalizer | None = None):
        if not path.is_file():
            raise UserError("no tokenizer model", where=path)
        self.model = SentencePieceProcessor()
        try:
            self.model.LoadFromSerializedProto(path.read_bytes())
        except RuntimeError as error:
            raise UserError("this is no SentencePiece model", where=path) from error
        self.normalizer = normalizer or Normalizer()

    @property
    def unknown_id(self) -> int:
        return self.model.unk_id()

    def pieces(self, text: str) -> list[str]:
        """Pieces of a text; a single character is not normalised, as in the original."""
        alone = text.strip()
        if len(alone) <= 1:
            return self.model.EncodeAsPieces(alone)
        return self.model.EncodeAsPieces(spaced(self.normalizer.normalize(text)))

    def ids(self, pieces: Sequence[str]) -> list[int]:
        """The number of each piece; unknown ones get `unknown_id`."""
        return [self.model.PieceToId(piece) for piece in pieces]

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return self.ids(self.pieces(text))
