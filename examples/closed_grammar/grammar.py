"""A language of 20,736 sentences: who, did what, to what, where or when.

Small enough for a tiny network to learn in minutes, and still a real test: the held-out sentences
are combinations it has never heard of words it has.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

Item = TypeVar("Item")

SUBJECTS = (
    "the old farmer",
    "my younger sister",
    "the clever student",
    "the village doctor",
    "our new teacher",
    "the hungry soldier",
    "the famous painter",
    "the little boy",
    "his best friend",
    "the young pilot",
    "my uncle Robert",
    "every good lawyer",
)
VERBS = (
    "carried",
    "painted",
    "found",
    "bought",
    "opened",
    "borrowed",
    "cleaned",
    "chose",
    "admired",
    "drew",
    "described",
    "forgot about",
)
OBJECTS = (
    "a heavy wooden box",
    "the broken window",
    "several green bottles",
    "the small silver key",
    "the yellow curtain",
    "an ancient map",
    "the blue bicycle",
    "an expensive book",
    "some kitchen chairs",
    "the empty cage",
    "her winter gloves",
    "the coffee machine",
)
TAILS = (
    "near the river",
    "before the storm",
    "in the evening",
    "behind the school",
    "without any help",
    "on a cold morning",
    "after a long dinner",
    "at the market",
    "during the summer",
    "under the bridge",
    "with great care",
    "for the whole family",
)
SLOTS = (SUBJECTS, VERBS, OBJECTS, TAILS)


@dataclass(frozen=True)
class Split:
    """Sentences to train on and sentences never heard; no sentence is in both."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def split(n_training: int, n_held_out: int, seed: int = 0) -> Split:
    """Draw different sentences for training and for the test; the same seed draws the same ones.

    Raises:
        UserError: if the grammar has fewer sentences, or a held-out word was never in training
    """
    sentences = [sentence(parts) for parts in itertools.product(*SLOTS)]
    if n_training + n_held_out > len(sentences):
        raise UserError(
            f"the grammar has {len(sentences)} sentences, not {n_training + n_held_out}"
        )
    drawn = random.Random(seed_for(seed, "grammar")).sample(sentences, n_training + n_held_out)
    result = Split(tuple(drawn[n_held_out:]), tuple(drawn[:n_held_out]))
    if unseen := words(result.held_out) - words(result.training):
        raise UserError(
            f"{n_training} sentences don't cover the held-out words: {', '.join(sorted(unseen))}",
            fix="ask for more training sentences",
        )
    return result


def sentence(parts: Sequence[str]) -> str:
    """One phrase of every slot as a sentence with a capital and a full stop."""
    text = " ".join(parts)
    return text[0].upper() + text[1:] + "."


def words(sentences: Sequence[str]) -> set[str]:
    """The different words, in lower case and without full stops."""
    return {word for text in sentences for word in text.lower().replace(".", "").split()}


def groups(items: Sequence[Item], n: int = 3) -> list[list[Item]]:
    """Neighbours in groups of `n`; a last group that isn't full is left out."""
    return [list(items[start : start + n]) for start in range(0, len(items) - n + 1, n)]
