"""The speaker of kani-tts-2: an embedding, projected, is read in a place of its own.

Its name, shape and place are those of utils/model.py in nineninesix-ai/kani-tts-2-pretrain;
`tokens.with_place` makes the place in ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ttscommon.errors import UserError

PART = "speaker_emb_projection"
PROJECTION = f"model.{PART}.weight"


class Projection(nn.Module):
    """(N, E) embeddings to (N, D) vectors that the network reads.

    It isn't `nn.Linear`, so that no adapter is put on it.
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.linear(embeddings.to(self.weight), self.weight)


def add_projection(model: Any, weight: Tensor, where: Path) -> None:
    """Give a model the projection of its checkpoint, saved under the same name.

    Raises:
        UserError: if it is of another width than the model
    """
    width = model.config.hidden_size
    if weight.ndim != 2 or len(weight) != width:
        shape = list(weight.shape)
        raise UserError(f"{PROJECTION} is {shape}, it must be [{width}, ...]", where=where)
    setattr(model.model, PART, Projection(weight.to(model.dtype)))


def embedding_dim(model: Any) -> int | None:
    """Numbers of an embedding that a model takes; None if it takes none."""
    projection = getattr(model.model, PART, None)
    return None if projection is None else projection.weight.shape[1]


def dim_in(folder: Path) -> int:
    """The same of a checkpoint, of which only names and shapes are read.

    Raises:
        UserError: if it isn't there, or its model takes no embeddings
    """
    if not folder.is_dir():
        raise UserError("no such folder of a model", where=folder)
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as weights:
                if PROJECTION in weights.keys():  # noqa: SIM118  # it isn't a mapping
                    return weights.get_slice(PROJECTION).get_shape()[1]
        except SafetensorError as error:
            raise UserError(f"no usable weights: {error}", where=file) from error
    raise takes_none(folder)


def takes_none(where: Path | None = None) -> UserError:
    return UserError(
        f"this model takes no speaker embeddings: it has no {PROJECTION}",
        where=where,
        fix="a kani-tts-2 model; or speak and train without embeddings",
    )


def inputs_with_speakers(
    model: Any, ids: Tensor, is_read: Tensor, place_id: int, embeddings: Tensor | None
) -> dict[str, Tensor]:
    """What the network is given: ids, or what they stand for with the speakers in their places.

    Args:
        ids: (B, T)
        is_read: (B, T) bool, False on padding
        place_id: of the places that `tokens.with_place` made
        embeddings: (N, E) one for each of these, row by row; None where there are none
    """
    if embeddings is None:
        return {"input_ids": ids}
    rows = model.model.embed_tokens(ids)  # (B, T, D)
    vectors = getattr(model.model, PART)(embeddings).to(rows.dtype)
    places = (ids == place_id) & is_read
    return {"inputs_embeds": rows.masked_scatter(places[..., None], vectors)}
