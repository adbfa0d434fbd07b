"""Ways to speak that tell what a pattern does, named as `ttscommon.evaluation.pattern_protocol`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ttscommon.errors import UserError

REAL, INSERTED, ADAPTER = "R", "B1", "L"
Way = Literal["none", "own", "shuffled", "other"]
Adapter = Literal["none", "around", "alone"]


@dataclass(frozen=True)
class Condition:
    """A way to speak.

    Attributes:
        name: as the protocol has it
        adapter: which speaks along: none, that which was trained around the pattern, or one that
            was trained without any pattern
        way: which pattern: none, the speaker's own, the same with its numbers in another order, or
            another speaker's
        is_hesitant: whether hesitations are written into the text
    """

    name: str
    adapter: Adapter = "none"
    way: Way = "none"
    scale: float = 1.0
    is_hesitant: bool = False


def ways_to_speak(
    *,
    has_adapter: bool,
    strengths: Sequence[float] = (),
    has_other: bool = False,
    has_lora: bool = False,
) -> list[Condition]:
    """All that can be spoken: with an adapter P, LP and what belongs to LP, else P and its.

    Args:
        has_adapter: one that was trained around the pattern
        has_lora: one that was trained without a pattern

    Raises:
        UserError: for a strength that is no number, or below 0; for two that are called the same
    """
    system = "LP" if has_adapter else "P"
    as_system = functools.partial(Condition, adapter="around" if has_adapter else "none")
    found = [Condition("B0"), Condition(INSERTED, is_hesitant=True)]
    if has_lora:
        found.append(Condition(ADAPTER, adapter="alone"))
    if has_adapter:
        found.append(Condition("P", way="own"))
    found.append(as_system(system, way="own"))
    found.append(as_system(f"{system}0", way="own", scale=0.0))
    found.append(as_system(f"{system}r", way="shuffled"))
    if has_other:
        found.append(as_system(f"{system}x", way="other"))
    called: dict[str, float] = {}
    for strength in dict.fromkeys(strengths):
        if not 0 <= strength < math.inf:
            raise UserError(f"a strength of {strength:g}", fix="--strengths 0.5 1.5")
        name = f"{strength:g}"
        if name in called or (name in ("0", "1") and strength not in (0, 1)):
            other = called.get(name, float(name))
            what = f"strengths {other!r} and {strength!r} are both called {system}@{name}"
            raise UserError(what, fix="--strengths with at most six digits each")
        called[name] = strength
        if strength not in (0, 1):
            found.append(as_system(f"{system}@{name}", way="own", scale=strength))
    return found
