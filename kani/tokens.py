"""Ids: where each code of each layer lies in the vocabulary, and what a clip looks like in ids.

A clip is `[human text end | ai speech ... end end]`, its audio frame by frame, four ids a frame.
Every number here is a setting of the released models (their `model_config.yaml`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ttscommon.errors import UserError

Ids = NDArray[np.int64]
N_SHOWN = 3  # offending places in a complaint


class TextTokenizer(Protocol):
    """What is needed of transformers' tokenizers."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...


@dataclass(frozen=True, kw_only=True)
class TokenSpace:
    """The vocabulary: text, then control ids, then the codes of each layer.

    Attributes:
        text_vocab_size: ids below are text, of which two are control ids
        audio_tokens_start: the id of code 0 of layer 0
        codebook_size: codes of each layer, 9 * 8 * 8 * 7
    """

    text_vocab_size: int = 64400
    start_of_text: int = 1
    end_of_text: int = 2
    start_of_speech: int = 64401
    end_of_speech: int = 64402
    start_of_human: int = 64403
    end_of_human: int = 64404
    start_of_ai: int = 64405
    end_of_ai: int = 64406
    pad_token: int = 64407
    audio_tokens_start: int = 64410
    num_codebooks: int = 4
    codebook_size: int = 4032

    def __post_init__(self) -> None:
        control = {name: getattr(self, name) for name in CONTROL}
        if len(set(control.values())) < len(control):
            raise UserError(f"two control tokens have the same id: {control}")
        if self.num_codebooks < 1 or self.codebook_size < 1:
            raise UserError(
                f"codebooks and codes are 1 or more, got {self.num_codebooks}, {self.codebook_size}"
            )
        for name, id_ in control.items():
            low = 0 if name in OF_TEXT else self.text_vocab_size
            if not low <= id_ < self.audio_tokens_start:
                raise UserError(
                    f"{name} is {id_}, it must be {low} or more, and below audio_tokens_start "
                    f"{self.audio_tokens_start}"
                )

    @classmethod
    def of(cls, model_config: Mapping[str, Any]) -> TokenSpace:
        """From the contents of a `model_config.yaml`.

        Raises:
            UserError: if a value is missing, no whole number, or contradicts another
        """
        places = {
            "text_vocab_size": ("tokenizer", "vocab_size"),
            **{name: ("special_tokens", name) for name in CONTROL},
            **{name: ("codec", name) for name in OF_CODEC},
        }
        values: dict[str, int] = {}
        for name, (section, key) in places.items():
            found = (model_config.get(section) or {}).get(key)
            if not isinstance(found, int) or isinstance(found, bool):
                what = f"{section}.{key} must be a whole number, got {found!r}"
                raise UserError(what, where="model_config.yaml")
            values[name] = found
        return cls(**values)

    @property
    def vocab_size(self) -> int:
        """Ids in all; a model may have more rows, but not fewer."""
        return self.audio_tokens_start + self.num_codebooks * self.codebook_size

    def audio_id(self, layer: int, code: int) -> int:
        """The id of a code, `layer` counted from 0."""
        if not (0 <= layer < self.num_codebooks and 0 <= code < self.codebook_size):
            raise ValueError(f"no code {code} in layer {layer}")
        return self.audio_tokens_start + layer * self.codebook_size + code

    def layer_ids(self, layer: int) -> range:
        """All ids of a layer."""
        first = self.audio_id(layer, 0)
        return range(first, first + self.codebook_size)

    @property
    def layer_starts(self) -> Ids:
        """(K,) the id of each layer's code 0."""
        layers = np.arange(self.num_codebooks, dtype=np.int64)
        return self.audio_tokens_start + layers * self.codebook_size


OF_TEXT = ("start_of_text", "end_of_text")
OF_CODEC = ("audio_tokens_start", "num_codebooks", "codebook_size")
CONTROL = tuple(
    field.name
    for field in dataclasses.fields(TokenSpace)
    if field.name not in ("text_vocab_size", *OF_CODEC)
)


@dataclass(frozen=True)
class Interleaved:
    """Audio as the model reads it.

    Attributes:
        ids: (T * K,) frame by frame
        duplicate_share: of the frames, how many repeat the one before
        removed_share: how many of them aren't in `ids`
    """

    ids: Ids
    duplicate_share: float
    removed_share: float


@dataclass(frozen=True)
class TrainingSequence:
    """A clip in ids.

    Attributes:
        audio_start: the place of the first audio id, right behind `start_of_speech`
    """

    ids: list[int]
    audio_start: int


@dataclass(frozen=True)
class Extracted:
    """The speech in generated ids.

    Attributes:
        codes: (K, T) the whole frames, up to the first id that is in the wrong place
        problem: what is wrong with the rest; None for speech that ended as it should
    """

    codes: Ids
    problem: str | None

    @property
    def complete(self) -> bool:
        return self.problem is None


def stacked(layers: Sequence[Sequence[int]], space: TokenSpace) -> Ids:
    """(K, T) codes of K lists, checked.

    Raises:
        UserError: if lengths differ, there is no frame, or a code isn't one
    """
    lengths = [len(layer) for layer in layers]
    if len(set(lengths)) > 1:
        raise UserError(f"the layers of a clip differ in length: {lengths}")
    codes = np.array([np.asarray(layer) for layer in layers])
    _require_codes(codes, space)
    return codes.astype(np.int64)


def interleave(
    codes: NDArray[np.integer], space: TokenSpace, remove_duplicates: bool = False
) -> Interleaved:
    """The ids of a clip's codes (K, T).

    Args:
        remove_duplicates: leave out each frame that repeats the one before, as the public trainer
            does; silence and held sounds get shorter, and how long they were is lost

    Raises:
        UserError: if there is no frame, or a code isn't one: it would be read as another layer's
    """
    _require_codes(codes, space)
    frames = codes.T.astype(np.int64) + space.layer_starts  # (T, K)
    repeats = np.zeros(len(frames), dtype=bool)
    repeats[1:] = (frames[1:] == frames[:-1]).all(axis=1)
    share = float(repeats.mean())
    if not remove_duplicates:
        return Interleaved(frames.reshape(-1), share, 0.0)
    return Interleaved(frames[~repeats].reshape(-1), share, share)


def speaker_prefix(speaker: str | None) -> str:
    """What stands before the text: the speaker (or language) in lower case, wherever it is used.

    A model that learned "anna: " has never seen "Anna: ".
    """
    name = (speaker or "").strip().lower()
    return f"{name}: " if name else ""


def text_ids(
    text: str, speaker: str | None, tokenizer: TextTokenizer, space: TokenSpace
) -> list[int]:
    """`start_of_text` and the text behind its speaker.

    Raises:
        UserError: if the tokenizer is another model's, or the text holds the name of a control id
    """
    ids = list(tokenizer.encode(speaker_prefix(speaker) + text, add_special_tokens=True))
    if ids[:1] != [space.start_of_text]:
        raise UserError(
            f"this tokenizer begins a text with id {ids[0] if ids else None}, "
            f"not with {space.start_of_text}",
            fix="take the tokenizer.json that was released with the model",
        )
    if max(ids) >= space.text_vocab_size or space.end_of_text in ids:
        raise UserError(f"the text holds the name of a control token: {text[:60]!r}")
    return ids


def prompt_ids(
    text: str, speaker: str | None, tokenizer: TextTokenizer, space: TokenSpace
) -> list[int]:
    """What a model is given to speak; `start_of_ai` is for it to say."""
    words = text_ids(text, speaker, tokenizer, space)
    return [space.start_of_human, *words, space.end_of_text, space.end_of_human]


def with_place(prompt: list[int], space: TokenSpace) -> list[int]:
    """A prompt with a place for the speaker's embedding, behind its first id.

    `pad_token` holds it, which no clip has otherwise and which counts as text.
    """
    return [prompt[0], space.pad_token, *prompt[1:]]


def training_sequence(
    text: str,
    speaker: str | None,
    audio_ids: Sequence[int] | Ids,
    tokenizer: TextTokenizer,
    space: TokenSpace,
    *,
    has_place: bool = False,
) -> TrainingSequence:
    """A clip, prompt and answer.

    Args:
        has_place: for the speaker's embedding
    """
    prompt = prompt_ids(text, speaker, tokenizer, space)
    prompt = with_place(prompt, space) if has_place else prompt
    opened = [*prompt, space.start_of_ai, space.start_of_speech]
    audio = np.asarray(audio_ids, dtype=np.int64).tolist()
    return TrainingSequence([*opened, *audio, space.end_of_speech, space.end_of_ai], len(opened))


def extract(ids: Sequence[int] | Ids, space: TokenSpace) -> Extracted:
    """The codes in `ids`, of which a prompt may be part.

    Nothing is given up because its end is missing or spoilt: all whole frames before that are kept.
    """
    found = np.asarray(ids, dtype=np.int64)
    starts = np.flatnonzero(found == space.start_of_speech)
    if not len(starts):
        return Extracted(_no_codes(space), "speech never began")
    spoken = found[starts[0] + 1 :]
    low = np.resize(space.layer_starts, len(spoken))  # of the layer that each place belongs to
    is_code = (spoken >= low) & (spoken < low + space.codebook_size)
    n_valid = len(spoken) if is_code.all() else int(np.argmin(is_code))
    n_frames, n_over = divmod(n_valid, space.num_codebooks)
    n_kept = n_frames * space.num_codebooks
    codes = (spoken[:n_kept] - low[:n_kept]).reshape(-1, space.num_codebooks).T
    return Extracted(codes, _problem(spoken, n_valid, n_over, space))


def frame_positions(
    ids: Sequence[int] | NDArray[np.integer], space: TokenSpace, audio_step: float = 1.0
) -> NDArray[Any]:
    """Positions as kani-tts-2 counts them: (..., N) of ids (..., N).

    The ids of a frame share a position, and frames lie `audio_step` apart.

    Args:
        audio_step: positions are whole numbers if it is an int, else float32
    """
    is_audio = np.asarray(ids) >= space.audio_tokens_start
    n_audio = is_audio.cumsum(axis=-1) - is_audio  # before each
    n_others = (~is_audio).cumsum(axis=-1) - ~is_audio
    positions = n_others + audio_step * (n_audio // space.num_codebooks)
    return positions.astype(np.int64 if isinstance(audio_step, int) else np.float32)


def _problem(spoken: Ids, n_valid: int, n_over: int, space: TokenSpace) -> str | None:
    if n_valid == len(spoken):
        return "speech never ended"
    if spoken[n_valid] != space.end_of_speech:
        return f"id {spoken[n_valid]} in the place of a code of layer {n_over + 1}"
    if n_over:
        return f"speech ended after {n_over} of the {space.num_codebooks} codes of a frame"
    return None if n_valid else "speech ended before its first frame"


def _no_codes(space: TokenSpace) -> Ids:
    return np.zeros((space.num_codebooks, 0), dtype=np.int64)


def _require_codes(codes: NDArray[Any], space: TokenSpace) -> None:
    if codes.ndim != 2 or len(codes) != space.num_codebooks:
        raise UserError(f"a clip has {space.num_codebooks} layers of codes, got {codes.shape}")
    if not codes.shape[1]:
        raise UserError("a clip without a frame")
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(f"codes are whole numbers, got {codes.dtype}")
    wrong = np.argwhere((codes < 0) | (codes >= space.codebook_size))
    if len(wrong):
        shown = [f"{codes[k, t]} (layer {k + 1}, frame {t})" for k, t in wrong[:N_SHOWN]]
        last = space.codebook_size - 1
        raise UserError(
            f"{len(wrong)} codes aren't between 0 and {last}: {', '.join(shown)}",
            fix="encode the clip again with the codec of this model",
        )
