"""Free-running generation: requests in, standardised latents out.

Rows of a batch never see one another: padding is masked and each row's noise comes from its own
seed, so a request sounds the same in whatever company it is generated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lewm import text
from lewm.alignment import alignment_map
from lewm.decoding import GenerationSettings, Row, encode_texts, run_continuous
from lewm.letters import readable, unreadable
from lewm.model import LeWMTTS
from lewm.weights import CheckpointInfo
from ttscommon.config import nearest
from ttscommon.errors import UserError
from ttscommon.mel import log_mel
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

__all__ = ["Generation", "GenerationSettings", "Request", "generate"]

# A prompt must give the audio encoder a few latents, and the mel more than half a window.
MIN_PROMPT_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Request:
    """One text to speak, within the length the model was trained on.

    Attributes:
        speaker, language: rows of the model's tables, needed where a table has more than one
        prompt_audio: (S,) at the model's sample rate, a reference clip to go on from
        prompt_text: what is said in it
        seed: names this row's noise (flow head), whatever batch it is in
        reading: letters or phonemes, for a model that reads both
    """

    text: str
    speaker: str | None = None
    language: str | None = None
    prompt_audio: np.ndarray | None = None
    prompt_text: str | None = None
    seed: int = 0
    reading: text.Reading = "auto"

    @property
    def words(self) -> str:
        """The text to speak, cleaned."""
        return text.clean(self.text)

    @property
    def all_words(self) -> str:
        """What the text encoder reads: the prompt's text, a space, the text to speak."""
        if self.prompt_text is None:
            return self.words
        return f"{text.clean(self.prompt_text)} {self.words}"


@dataclass(frozen=True)
class Generation:
    """What was generated for one request.

    Attributes:
        latents: (T', C) standardised, without the prompt's
        ran_away: the maximum was reached before the model stopped by itself
        attention: (T', L) alignment map over the ids of prompt and text, or None
    """

    latents: Tensor
    ran_away: bool
    attention: Tensor | None = None


@torch.inference_mode()
def generate(
    model: LeWMTTS,
    info: CheckpointInfo,
    requests: Sequence[Request],
    settings: GenerationSettings | None = None,
    *,
    run: Callable[[Sequence[Row], GenerationSettings], None] | None = None,
) -> list[Generation]:
    """Speak every request; the answers are in the order of the requests.

    Longest first, so that the rows of a batch are alike and the last ones to leave are short.

    Args:
        run: what fills the rows; default continuous batching, or a `StaticDecoder(model).run`

    Raises:
        UserError: for an empty text, an unknown speaker or language, half of a voice prompt
    """
    settings = settings or GenerationSettings()
    if not info.is_guided:
        settings = replace(settings, window=None)
    rows = [row_for(model, info, request, settings) for request in requests]
    ordered = sorted(rows, key=lambda row: -row.maximum)
    if run is None:
        run_continuous(model, ordered, settings)
    else:
        run(ordered, settings)
    return [_generation(model, row, settings) for row in rows]


def row_for(
    model: LeWMTTS,
    info: CheckpointInfo,
    request: Request,
    settings: GenerationSettings | None = None,
) -> Row:
    """The request as the batch takes it: ids, table rows, prompt latents, maximum and noise.

    Raises:
        UserError: as `generate`
    """
    settings = settings or GenerationSettings()
    config = model.config
    expected = len(request.words.encode()) * info.frames_per_byte
    maximum = settings.max_frames or max(
        settings.min_frames, math.ceil(settings.max_ratio * expected)
    )
    noise = None
    if config.head == "flow":
        generator = torch.Generator().manual_seed(seed_for(request.seed, "flow"))
        noise = torch.randn(maximum, config.latent_dim, generator=generator)
    speaker = request.speaker or info.training.get("voice")
    speaker = speaker or (config.speakers[0] if len(config.speakers) == 1 else None)
    named = request.language or info.training.get("language_of", {}).get(speaker)
    language = named or (config.languages[0] if config.languages else "en")
    form, words = text.form_to_feed(config.text_form, request.reading), request.all_words
    letters = info.training.get("letters")
    if letters and form == "bytes":
        words = readable(words, letters, language)
    elif letters and (strangers := unreadable(words, letters, "L")):
        shown = " ".join(strangers)
        log.warning("warning: unknown to this voice, said as espeak-ng spells them: %s", shown)
    return Row(
        ids=text.encode(words, form, language),
        speaker_id=_table_row("speaker", speaker, config.speakers),
        language_id=_table_row("language", named, config.languages),
        prefix=_prefix(model, request),
        maximum=maximum,
        noise=noise,
    )


def _table_row(what: str, name: str | None, known: Sequence[str]) -> int:
    """The table row that `name` stands for; it may be left out where there is no choice."""
    if name is None:
        if len(known) > 1:
            raise UserError(
                f"this checkpoint has {len(known)} {what}s; say which one: {_list(known)}"
            )
        return 0
    if name in known:
        return known.index(name)
    if not known:
        raise UserError(f"this checkpoint has no choice of {what}", fix=f"leave '{name}' out")
    guess = nearest(name, known)
    fix = f"did you mean '{guess}'?" if guess else f"known: {_list(known)}"
    raise UserError(f"no {what} '{name}' in this checkpoint", fix=fix)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")


def _prefix(model: LeWMTTS, request: Request) -> Tensor | None:
    """Standardised latents (P, C) of the voice prompt."""
    if request.prompt_audio is None and request.prompt_text is None:
        return None
    if request.prompt_audio is None or request.prompt_text is None:
        raise UserError(
            "a voice prompt needs both its audio and its text",
            fix="give --prompt-audio FILE and --prompt-text 'what is said in it'",
        )
    if len(request.prompt_audio) < MIN_PROMPT_SECONDS * model.recipe.sample_rate:
        raise UserError(f"the voice prompt is shorter than {MIN_PROMPT_SECONDS} s")
    device = model.latent_mean.device
    audio = torch.as_tensor(request.prompt_audio, dtype=torch.float32, device=device)
    mel = log_mel(audio, model.recipe)[None]  # (1, M, T)
    return model.encode(mel, torch.ones_like(mel[:, 0], dtype=torch.bool))[0]


def _generation(model: LeWMTTS, row: Row, settings: GenerationSettings) -> Generation:
    latents = torch.cat(row.pieces)
    attention = _attention(model, row, latents) if settings.keep_attention else None
    return Generation(latents.float(), row.ran_away, attention)


def _attention(model: LeWMTTS, row: Row, latents: Tensor) -> Tensor:
    """Where the row would look without a window, in one pass over its own latents."""
    encoded, mask = encode_texts(model, [row], len(row.ids))
    history = latents if row.prefix is None else torch.cat([row.prefix.to(latents), latents])
    said = model.predictor(history[None], encoded, mask, need_attention=True)
    return alignment_map([layer[0] for layer in said.attention])[row.n_prefix :]
