"""Hesitations in a verbatim text: which fillers, where in the utterance, and what is said again.

Which word somebody fills pauses with marks the person; where they do it decides how natural it
sounds (Matsunaga et al., arXiv 2210.07559). So both are looked at separately.
"""

from __future__ import annotations

from collections import Counter

from ttscommon.evaluation.wording import (
    BROKEN_OFF,
    false_starts,
    fillers_among,
    is_filler,
    plain_words,
    separate_words,
    without_repeats,
    without_runs,
)


def find_fillers(text: str, language: str) -> list[tuple[str, str]]:
    """(hesitation sound, "initial", "medial" or "final") of each filler in a verbatim text.

    Initial is what comes before the first real word, final what comes after the last. "Ummm" and
    "um" are one sound. In an utterance of fillers alone, all are initial.
    """
    words = separate_words(text)
    are_fillers = fillers_among(words, language)
    real = [i for i, is_one in enumerate(are_fillers) if not is_one]
    found = []
    for i, word in enumerate(words):
        if are_fillers[i]:
            is_initial = not real or i < real[0]
            where = "initial" if is_initial else "final" if i > real[-1] else "medial"
            found.append((without_runs(word), where))
    return found


def count_repetitions(heard: str, language: str, *, intended: str = "") -> int:
    """How often a word or a phrase of up to three is said again at once, or begun in vain.

    "I I was I was g- going" has three. Fillers between the two don't matter; a broken-off word
    counts if the next one begins with it. Four and more in a row are a machine's loop, which is a
    fault (see `verdicts`) and no repetition.

    Args:
        intended: repetitions of this text ("had had") don't count
    """
    again = Counter(_repetitions(heard, language)) - Counter(_repetitions(intended, language))
    return again.total()


def _repetitions(text: str, language: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    tokens = text.split()
    whole = []
    for number, token in enumerate(tokens):
        bare = plain_words(token).replace(" ", "")
        if BROKEN_OFF.match(token) and not is_filler(bare, language):
            following = next(
                (w for t in tokens[number + 1 :] for w in separate_words(t)
                 if not is_filler(w, language)), "")  # fmt: skip
            if following.startswith(bare):
                found.append((bare,))
            continue
        starts = false_starts(token)
        found += [tuple(separate_words(token.split("-")[0]))] * starts
        whole.append("-".join(token.replace("‑", "-").split("-")[starts:]))
    words = separate_words(" ".join(whole))
    are_fillers = fillers_among(words, language)
    words = [word for word, is_one in zip(words, are_fillers, strict=True) if not is_one]
    return found + without_repeats(words)[1]
