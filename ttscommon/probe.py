"""Before the first step of a language model: does it predict the next token, and only from before?

The worst bug in this field is a label that is shifted by one: losses fall beautifully, and the
result is silent (a training loss of 0.003 was reported for one). Three checks on the untrained
model find it. A family hands over numbers and functions, so nothing here knows any model.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

MARGIN = 0.1  # nats by which the next token must be better predicted than its neighbours
CHANCE_SHARE = 0.95  # of ln V; a model that is hardly better can't tell one offset from another
FLOOR_SHARE = 0.9  # of ln V; nobody predicts random tokens better, unless he sees them
FEWEST = 32  # tokens; the mean over fewer strays from chance by as much as the margin
TOLERANCE = 1e-4  # of the logits' size; what rounding may move


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        passed: None where this model can't tell
        numbers: what the answer rests on
        note: what it means, unless it passed
    """

    name: str
    passed: bool | None
    numbers: dict[str, float]
    note: str = ""

    def __str__(self) -> str:
        verdict = {True: "passed", False: "FAILED", None: "can't tell"}[self.passed]
        numbers = "  ".join(f"{name} {value:.3g}" for name, value in self.numbers.items())
        return f"{self.name}: {verdict}  {numbers}" + (f"  ({self.note})" if self.note else "")


def check_offsets(logits: Tensor, inputs: Tensor, targets: Tensor, mask: Tensor) -> Check:
    """Is the token after the one just read what the model predicts best?

    Cross-entropy against the token that was just read (offset 0), the next one (1, the labels) and
    the one after that (2), at the same places. A model without training can't tell.

    Args:
        logits: (B, T, V)
        inputs, targets: (B, T) long; what was read at a place, and its label
        mask: (B, T) bool, True on real labels
    """
    places = mask[:, 1:-1] & mask[:, 2:]  # behind the start token, and with two tokens to come
    said = logits[:, 1:-1][places].float()
    labels = (inputs[:, 1:-1], targets[:, 1:-1], targets[:, 2:])
    losses = [float(F.cross_entropy(said, label[places])) for label in labels]
    chance = math.log(logits.shape[-1])
    numbers = {f"offset{i}": loss for i, loss in enumerate(losses)} | {"chance": chance}
    name = "next token"
    if int(places.sum()) < FEWEST:
        return Check(name, None, numbers if places.any() else {}, "too few tokens to tell")
    if min(losses) >= CHANCE_SHARE * chance:
        return Check(name, None, numbers, "the base predicts nothing better than chance")
    if losses[1] <= min(losses[0], losses[2]) - MARGIN:
        return Check(name, True, numbers)
    return Check(name, False, numbers, "the labels don't fit what the model was trained on")


@torch.no_grad()
def check_causality(
    outputs: Callable[[Tensor], Tensor], ids: Tensor, *, n_tokens: int, n_places: int = 3
) -> Check:
    """Does changing token t leave every output before it as it was, and move some after it?

    Args:
        outputs: (B, T) ids -> (B, T + n, V), where output t is what is predicted for token t
        ids: (B, T) long
        n_tokens: ids are below this
        n_places: how many t are tried
    """
    before = outputs(ids)
    size = float(before.abs().max())
    leaked, moved = 0.0, 0.0
    for number in range(1, n_places + 1):
        t = min(ids.shape[1] * number // (n_places + 1), ids.shape[1] - 1)
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 1) % n_tokens
        difference = (outputs(changed) - before).abs()
        leaked = max(leaked, float(difference[:, : t + 1].max()))
        moved = max(moved, float(difference[:, t + 1 :].max()))
    numbers = {"moved_before": leaked, "moved_after": moved}
    if leaked > TOLERANCE * size:
        return Check("causality", False, numbers, "outputs change before the token that changed")
    if moved == 0:
        return Check("causality", False, numbers, "the tokens aren't read at all")
    return Check("causality", True, numbers)


@torch.no_grad()
def check_entropy_floor(
    loss_of: Callable[[Tensor], Tensor],
    shape: Sequence[int],
    *,
    n_tokens: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Check:
    """Are random tokens, which can't be predicted, predicted no better than by chance?

    Args:
        loss_of: mean cross-entropy () of ids (B, T)
        shape: (B, T) of the ids to try
        n_tokens: ids are drawn evenly below this
        device: where `loss_of` wants them; they are the same on all
    """
    chance = torch.Generator().manual_seed(seed_for(seed, "entropy floor"))
    ids = torch.randint(0, n_tokens, tuple(shape), generator=chance)
    loss = float(loss_of(ids.to(device)))
    floor = FLOOR_SHARE * math.log(n_tokens)
    passed = loss >= floor  # and not nan
    note = "" if passed else "the model sees what it should predict"
    return Check("random tokens", passed, {"loss": loss, "floor": floor}, note)


def require(checks: Sequence[Check]) -> None:
    """Log every check, and refuse to train if one failed.

    Raises:
        UserError: naming those that failed, with their numbers
    """
    for check in checks:
        log.log(logging.INFO if check.passed else logging.WARNING, "probe  %s", check)
    failed = [str(check) for check in checks if check.passed is False]
    if failed:
        raise UserError(
            f"the model isn't trained: {'; '.join(failed)}",
            fix="the data were prepared for another model, or this is a bug; please report it",
        )
