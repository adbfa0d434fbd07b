"""Marks of hesitation in a text, treated alike before training and before speaking.

`[UM]` becomes "um" and `[PAUSE]` becomes "...": what can be typed, read and spoken. A share of the
texts to train on is stripped of all of it. Else the text would tell the model every pause, and
nothing would be left for a pattern to do in a text without marks.
"""

from __future__ import annotations

import re

from ttscommon.evaluation.wording import is_filler, plain_words
from ttscommon.seeds import seed_for

RULES = 1  # raised when the same text would come out otherwise
SOUNDS = {"uh": "uh", "um": "um", "er": "er", "ah": "ah", "hmm": "hmm", "hm": "hmm"}
LONGEST_REPEAT = 3  # words
_SOUND = re.compile(r"\[\s*(uh|um|er|ah|hmm?)\s*\]", re.IGNORECASE)
_REST = re.compile(r"\s*\[\s*(?:long(?:[ _]pause)?|pause|silence)\s*\]", re.IGNORECASE)
_BREATH = re.compile(r"\[\s*(?:breath|inhale|exhale)\s*\]", re.IGNORECASE)
_DOTS = re.compile(r"[,;:]?\s*(?:\.\s*\.|…)(?:\s*[.…])*[,;:]?")
_END = re.compile(r"[.!?。！？]+[\"'”’»)\]]*$")
_TAIL = re.compile(r"[^\w\]]*$")


def readable(text: str) -> str:
    """The text with marks written as one would write them; what has none stays as it is.

    `[pause:0.8]`, which inserts silence when speaking, is left alone.
    """
    marked = _BREATH.sub(" ", _REST.sub(" …", _SOUND.sub(lambda m: SOUNDS[m[1].lower()], text)))
    return " ".join(_DOTS.sub(_dots, marked).split())


def stripped(text: str, language: str) -> str:
    """What a fluent speaker would have been given to read.

    Without hesitation sounds, dots, false starts ("go- going", "th-the") and words said twice. If
    nothing would be left, the text is as `readable` has it.
    """
    found = _stripped_once(text, language)
    # What is left out may bring together what then is said twice.
    while (again := _stripped_once(found, language)) != found:
        found = again
    return found


def _stripped_once(text: str, language: str) -> str:
    kept: list[str] = []
    before = ""
    for token in readable(text).split():
        bare, before_it = plain_words(token).replace(" ", ""), before
        before = bare
        if bare and is_filler(bare, language, before=before_it):
            _hand_over(kept, token)
            continue
        kept.append(_whole_word(token))
    kept = [token for token in _without_dots(kept) if plain_words(token) or "[" in token]
    kept = _without_cut_words(kept)
    for size in range(LONGEST_REPEAT, 0, -1):
        kept = _without_repeats(kept, size)
    if not kept:
        return readable(text)
    return _begun_alike(" ".join(kept), readable(text))


def is_stripped(clip: str, *, share: float, seed: int) -> bool:
    """Whether a clip's text is one of those without marks; says the same for ever.

    Args:
        clip: its id
    """
    return seed_for(seed, "strip", clip) / 2**32 < share


def _dots(found: re.Match[str]) -> str:
    """Dots behind a word; the end of a sentence is rest enough."""
    before = found.string[: found.start()].rstrip()
    return "... " if before and not _END.search(before) else " "


def _hand_over(kept: list[str], filler: str) -> None:
    """A hesitation sound goes, and what ended the sentence goes to the word before."""
    tail = _TAIL.search(filler)
    mark = tail[0] if tail else ""
    if not kept:
        return
    if _END.search(mark) and "..." not in mark:
        kept[-1] = kept[-1].rstrip(",;:.") + mark
    elif kept[-1].endswith(","):
        kept[-1] = kept[-1][:-1]  # "I, um, think" was one thought


def _whole_word(token: str) -> str:
    """ "th-the" is "the"; "re-enter" stays."""
    parts = token.replace("‑", "-").split("-")
    while len(parts) > 1 and parts[0] and parts[1].casefold().startswith(parts[0].casefold()):
        parts.pop(0)
    return "-".join(parts)


def _without_dots(tokens: list[str]) -> list[str]:
    found = []
    for number, token in enumerate(tokens):
        if token.endswith("..."):
            following = tokens[number + 1] if number + 1 < len(tokens) else ""
            is_end = not following or (following[0].isupper() and following != "I")
            token = token.rstrip(".") + ("." if is_end else "")
        found.append(token)
    return found


def _without_cut_words(tokens: list[str]) -> list[str]:
    """Without "go-" before "going"."""
    kept = []
    for number, token in enumerate(tokens):
        following = plain_words(tokens[number + 1]) if number + 1 < len(tokens) else ""
        is_cut = token.rstrip(",").endswith(("-", "‑", "–", "—"))
        if is_cut and following.startswith(plain_words(token)):
            continue
        kept.append(token)
    return kept


def _without_repeats(tokens: list[str], size: int) -> list[str]:
    bares = [plain_words(token) for token in tokens]
    kept: list[str] = []
    place = 0
    while place < len(tokens):
        gram = bares[place : place + size]
        again = bares[place + size : place + 2 * size]
        is_sentence = any(_END.search(token) for token in tokens[place : place + size])
        if len(gram) == size and gram == again and all(gram) and not is_sentence:
            place += size
            continue
        kept.append(tokens[place])
        place += 1
    return kept


def _begun_alike(text: str, before: str) -> str:
    """With a capital where the text before had one."""
    is_capital = next((c for c in before if c.isalpha()), "").isupper()
    return text[0].upper() + text[1:] if is_capital else text
