"""What is said to the model and by it: turns of text and audio.

The layout is that of Boson AI's own program, which the released model was trained with: references
are turns of the assistant, each after the text that is said in it. transformers' processor writes
the same, but for audio inside a scene, where the original's form stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from higgs_trainer.text import TextConfig, has_speech, normalised

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
SYSTEM = "Generate audio following instruction."
SCENE = "Audio is recorded from a quiet room."


@dataclass(frozen=True)
class Audio:
    """Speech in a turn.

    Attributes:
        path: of the recording; None where codes are at hand
    """

    path: Path | None = None


Part = str | Audio


@dataclass(frozen=True)
class Turn:
    """What one says at a time."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def has_audio(self) -> bool:
        return any(isinstance(part, Audio) for part in self.parts)

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True)
class Conversation:
    """Turns in order.

    Attributes:
        learned_from: what the assistant says from this turn on is learned; None: nothing is, it
            is a prompt
    """

    turns: tuple[Turn, ...]
    learned_from: int | None = None

    @property
    def audios(self) -> list[Audio]:
        """In the order in which they are read."""
        return [part for turn in self.turns for part in turn.parts if isinstance(part, Audio)]

    @property
    def prompt(self) -> Conversation:
        """What stands before the first turn that is learned."""
        return Conversation(self.turns[: self.learned_from])

    def answered(self, audio: Audio) -> Conversation:
        """With an answer that is to be learned."""
        turns = (*self.turns, Turn("assistant", (audio,)))
        return replace(self, turns=turns, learned_from=len(self.turns))

    def is_learned(self, number: int) -> bool:
        """Whether turn `number` is."""
        is_late = self.learned_from is not None and number >= self.learned_from
        return is_late and self.turns[number].role == "assistant"


def request(
    text: str,
    *,
    references: Iterable[tuple[str, Audio]] = (),
    system: str = SYSTEM,
    scene: str = SCENE,
) -> Conversation:
    """The conversation that asks for `text` in the voice of references, or in any voice.

    Args:
        references: what is said in each, and the audio
        scene: how it sounds around; "" leaves it out
    """
    turns = [Turn("system", (with_scene(system, scene),))] if system else []
    for said, audio in references:
        turns += [Turn("user", (said,)), Turn("assistant", (audio,))]
    return Conversation((*turns, Turn("user", (text,))))


def as_read(turns: Sequence[Turn], config: TextConfig) -> tuple[Turn, ...]:
    """With what the user says as the model reads it; audio in a turn leaves it as it is."""
    return tuple(
        replace(turn, parts=(normalised(turn.text, config),))
        if turn.role == "user" and not turn.has_audio
        else turn
        for turn in turns
    )


def unspeakable(turns: Sequence[Turn], config: TextConfig) -> list[str]:
    """Turns of the user in which there is nothing to say, a line each."""
    return [
        f"turn {number} of the user has nothing to say: '{turn.text[:40]}'"
        for number, turn in enumerate(as_read(turns, config))
        if turn.role == "user" and not turn.has_audio and turn.text and not has_speech(turn.text)
    ]


def with_scene(system: str, scene: str) -> str:
    """A system turn's text with a scene in its marks."""
    if not scene:
        return system.strip()
    return f"{system.strip()}\n\n<|scene_desc_start|>\n{scene.strip()}\n<|scene_desc_end|>"


def role_defects(turns: Sequence[Turn]) -> list[str]:
    """What is wrong with the order of turns, a line each."""
    found = [
        f"turn {number} is the system's, which can only be the first"
        for number, turn in enumerate(turns)
        if turn.role == "system" and number
    ]
    spoken = [turn.role for turn in turns if turn.role != "system"]
    if not spoken:
        found.append("nobody says anything")
    elif spoken[0] == "assistant":
        found.append("the assistant speaks before the user")
    found += [
        f"turn {number} of the {turn.role} is empty"
        for number, turn in enumerate(turns)
        if not turn.text.strip() and not turn.has_audio
    ]
    return found
