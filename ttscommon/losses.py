"""What every model's losses come back as."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Losses:
    """The losses of one batch, each a mean over the batch's targets.

    Attributes:
        total: () what is minimised
        parts: the unweighted losses by name, each (), as they are logged
    """

    total: Tensor
    parts: dict[str, Tensor]
