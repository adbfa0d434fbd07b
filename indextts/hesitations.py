"""A speaker's hesitations as counts in their texts, and texts with such hesitations written in.

The cheap competitor of a learned manner: the model as it is, given a text in which somebody wrote
fillers, rests and repeats where this speaker would have them (arXiv 2412.12710 has a language model
write them). What is counted here are places between words by what stands around them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from indextts.pattern_text import readable, stripped
from ttscommon.errors import UserError
from ttscommon.evaluation.placement import context_of, is_sentence_end
from ttscommon.evaluation.wording import is_filler, plain_words, without_runs
from ttscommon.manifest import read_records
from ttscommon.outputs import read_texts
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

START, END = "start", "end"  # of a text; contexts besides those of `placement`
REST, AGAIN = "...", "again"
POOLED = 10  # places between any words that count along with each context's own
_TAIL = ".,;:!?"

Marks = tuple[str, ...]


@dataclass(frozen=True)
class Habits:
    """What a speaker puts between words.

    Attributes:
        places: {context: what was at each such place}; () is nothing, else fillers, REST, AGAIN
    """

    places: Mapping[str, Sequence[Marks]] = field(default_factory=dict)

    @classmethod
    def counted(cls, verbatim: Sequence[str], language: str) -> Habits:
        """From texts word for word, with marks as `readable` reads them."""
        places: dict[str, list[Marks]] = {}
        for text in verbatim:
            words, marks = _parts(readable(text), language)
            if not words:
                continue
            for number, found in enumerate(marks):
                places.setdefault(_context(words, number, language), []).append(found)
        return cls(places)

    @property
    def is_fluent(self) -> bool:
        """Whether there is nothing to write."""
        return not any(found for own in self.places.values() for found in own)

    def written_into(self, text: str, language: str, seed: int) -> str:
        """The text with hesitations drawn for each of its places; the same seed writes the same."""
        words = readable(text).split()
        if not words or self.is_fluent:
            return text
        random = np.random.default_rng(seed_for(seed, "hesitations", plain_words(text)))
        inner = [found for context, own in self.places.items() if context not in (START, END)
                 for found in own]  # fmt: skip
        written: list[str] = []
        for number in range(len(words) + 1):
            context = _context(words, number, language)
            among = self.places.get(context, ())
            n_pooled = 0 if context in (START, END) or not inner else POOLED
            if random.random() * (len(among) + n_pooled) >= len(among):
                among = inner or [()]
            _write(written, among[int(random.integers(len(among)))], words[:number])
            written += words[number : number + 1]
        return " ".join(written)


def by_habit(manifest: Path, language: str) -> Callable[[str, int], str]:
    """Writes hesitations into a text as the speaker has them in prepared clips.

    Args:
        manifest: of clips to train on; those that are held out are to be compared with
    """
    records = read_records(manifest)
    said = [str(record.get("verbatim") or record.get("text") or "") for record in records]
    habits = Habits.counted(said, language)
    if habits.is_fluent:
        log.warning("no hesitation in %d texts of %s: none is written", len(said), manifest)
    return lambda text, seed: habits.written_into(text, language, seed)


def as_written(
    path: Path, texts: Sequence[str], language: str, *, text_file: Path | None
) -> Callable[[str, int], str]:
    """Looks up what somebody, such as a language model, wrote for each of the texts.

    Args:
        path: with a line for each line of `text_file`, from which the texts are

    Raises:
        UserError: if there are more or fewer lines
    """
    if text_file is None:
        raise UserError("hesitations for which texts?", where=path, fix="give --text-file as well")
    written = read_texts(path)
    if len(written) != len(texts):
        what = f"{len(written)} lines, but {len(texts)} in {text_file.name}"
        raise UserError(what, where=path, fix="write a line for each line of --text-file")
    known = {readable(text): line for text, line in zip(texts, written, strict=True)}
    others = [
        text for text, line in known.items() if _plain(line, language) != _plain(text, language)
    ]
    if others:
        what = "%d of %d lines of %s say other words than the text, such as for '%s'"
        log.warning(what, len(others), len(known), path, others[0])
    return lambda text, _: known[text]


def _parts(text: str, language: str) -> tuple[list[str], list[Marks]]:
    """The words of a text without hesitations, and what is before each of them and at the end."""
    words: list[str] = []
    marks: list[list[str]] = [[]]
    before = ""
    for token in text.split():
        bare, before_it = _bare(token), before
        before = bare or before
        if bare and is_filler(bare, language, before=before_it):
            marks[-1].append(without_runs(bare))
            if words and words[-1].endswith(","):
                words[-1] = words[-1][:-1]  # "I, um, think" was one thought
        elif bare and words and bare == _bare(words[-1]) and not is_sentence_end(words[-1]):
            marks[-1].append(AGAIN)
        elif bare:
            words.append(token.rstrip(".") if token.endswith(REST) else token)
            marks.append([])
        if token.endswith(REST):
            marks[-1].append(REST)
    return words, [tuple(found) for found in marks]


def _context(words: Sequence[str], number: int, language: str) -> str:
    """What stands around the place before a word; behind the last word is a place, too."""
    if number in (0, len(words)):
        return END if number else START
    return context_of(words[number - 1], _bare(words[number]), language)


def _write(written: list[str], marks: Marks, words: Sequence[str]) -> None:
    """Put hesitations behind what is written.

    Args:
        words: of the text so far
    """
    for mark in marks:
        if mark in (REST, AGAIN) and (not words or is_sentence_end(words[-1])):
            continue  # the end of a sentence is rest enough, and nobody repeats it
        if mark == REST:
            written[-1] = written[-1].rstrip(_TAIL) + REST
        elif mark == AGAIN:
            written[-1] = written[-1] if written[-1].endswith(REST) else written[-1].rstrip(_TAIL)
            written.append(words[-1].rstrip(_TAIL))
        else:
            begins = not words or is_sentence_end(words[-1])
            if written and written[-1][-1].isalnum():
                written[-1] += ","
            written.append(f"{mark.capitalize() if begins else mark},")


def _plain(text: str, language: str) -> str:
    return plain_words(stripped(text, language))


def _bare(token: str) -> str:
    return plain_words(token).replace(" ", "")
