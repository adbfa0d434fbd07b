"""Who says what: texts with [SPEAKER0] and [SPEAKER1], and what is heard before each line.

As with Boson AI's own program, a line is spoken after the references, each with its speaker's name
in front of its text if there are several voices, and after lines that were spoken before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from higgs_trainer.conversation import Audio, Conversation, request
from higgs_trainer.prompt import FORBIDDEN
from higgs_trainer.text import TextConfig, has_speech, normalised
from ttscommon.errors import UserError
from ttscommon.sentences import fitted

TAG = re.compile(r"\[SPEAKER(\d+)\]")
VOICES = ("feminine", "masculine")  # in turn, of speakers without references


@dataclass(frozen=True)
class Line:
    """What one says at a time.

    Attributes:
        speaker: the number in [SPEAKER0]; None where the text names nobody
    """

    text: str
    speaker: int | None = None

    @property
    def tagged(self) -> str:
        return self.text if self.speaker is None else f"[SPEAKER{self.speaker}] {self.text}"


@dataclass(frozen=True)
class Said:
    """A line whose sound is known: a reference, or what was spoken before.

    Attributes:
        codes: (K, T)
    """

    line: Line
    codes: Tensor


def lines_of(text: str, config: TextConfig) -> list[Line]:
    """Who says what, normalised.

    Raises:
        UserError: if there is nothing to say, somebody unnamed speaks in a dialogue, or the text
            holds marks of conversations
    """
    found = FORBIDDEN.search(text)
    if found:
        raise UserError(f"'{found[0]}' belongs to the structure of conversations, not into a text")
    before, *turns = TAG.split(text)  # the numbers stand between the texts
    if not turns:
        return [Line(_require_speech(normalised(text, config), "the text"))]
    if before.strip():
        raise UserError(
            f"nobody is named for the beginning of the dialogue: '{before.strip()[:40]}'",
            fix="begin with [SPEAKER0]",
        )
    return [
        Line(_require_speech(normalised(said, config), f"a turn of [SPEAKER{number}]"), int(number))
        for number, said in zip(turns[::2], turns[1::2], strict=True)
    ]


def pieces_of(
    lines: Sequence[Line], most: int, *, size: Callable[[str], int], language: str
) -> list[Line]:
    """The same lines, the long ones cut at sentences.

    Args:
        most: of a piece, in what `size` counts
    """
    return [
        Line(piece, line.speaker)
        for line in lines
        for piece in fitted(line.text, most, size=size, language=language)
        if has_speech(piece)
    ]


def references_of(lines: Sequence[Line], heard: Sequence[tuple[str, Tensor]]) -> list[Said]:
    """The first reference is SPEAKER0's, the next SPEAKER1's, and so on.

    Args:
        heard: the normalised text and the codes (K, T) of each

    Raises:
        UserError: if there are more references than speakers
    """
    named = {line.speaker for line in lines}
    if named == {None}:
        if len(heard) > 1:
            raise UserError(
                f"{len(heard)} references, but the text doesn't say who speaks",
                fix="--text '[SPEAKER0] Hello. [SPEAKER1] Hi.', or one reference",
            )
        return [Said(Line(said), codes) for said, codes in heard]
    silent = [number for number in range(len(heard)) if number not in named]
    if silent:
        raise UserError(
            f"a reference for [SPEAKER{silent[0]}], who says nothing",
            fix="references go to SPEAKER0, SPEAKER1 and so on, in order",
        )
    return [Said(Line(said, number), codes) for number, (said, codes) in enumerate(heard)]


def asked(
    line: Line,
    before: Sequence[Said],
    references: Sequence[Said],
    *,
    n_before: int,
    system: str,
    scene: str,
    speakers: Sequence[int] = (),
) -> tuple[Conversation, list[Tensor]]:
    """The conversation that asks for a line, and the codes of the audio in it.

    Heard before it are the references, the first line of everyone without one, so that voices
    stay, and the last lines.

    Args:
        before: everything that was spoken, in order
        n_before: how many of the last lines are heard
        speakers: numbers of all who speak; they get voices if there is no reference
    """
    heard = [*references, *_remembered(before, references, n_before)]
    if not references and len(speakers) > 1:
        voices = [f"SPEAKER{n}: {VOICES[n % len(VOICES)]}" for n in speakers]
        scene = "\n\n".join(part for part in (scene.strip(), "\n".join(voices)) if part)
    said = [(one.line.tagged, Audio()) for one in heard]
    conversation = request(line.tagged, references=said, system=system, scene=scene)
    return conversation, [one.codes for one in heard]


def _remembered(before: Sequence[Said], references: Sequence[Said], n_before: int) -> list[Said]:
    known = {one.line.speaker for one in references}
    kept = set(range(max(0, len(before) - n_before), len(before)))
    for number, one in enumerate(before):
        if one.line.speaker not in known:
            known.add(one.line.speaker)
            kept.add(number)
    return [before[number] for number in sorted(kept)]


def _require_speech(text: str, what: str) -> str:
    if not has_speech(text):
        raise UserError(f"there is nothing to say in {what}", fix='--text "Hello."')
    return text
