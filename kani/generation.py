"""Codes from prompts: each place of a frame gets a code of its layer, and nothing else.

Every answer opens with the same two ids, and after k codes comes one of layer k mod 4, so that the
prompts of a batch are always at the same place. Only the head's rows of that layer are computed, a
twentieth of it. Before each frame, except the first, speech may also end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kani.projection import embedding_dim, inputs_with_speakers, takes_none
from kani.sampling import Sampling
from kani.tokens import Extracted, TokenSpace, extract, with_place
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for


@dataclass(frozen=True)
class Reader:
    """A language model, and how it counts.

    Attributes:
        model: `Lfm2ForCausalLM`, with or without an adapter
        audio_step: how far frames lie apart where the ids of a frame share a position (kani-tts-2);
            None where each id has its own
        speaker_embedding: (E,) of who speaks (kani-tts-2); None where the ids alone are read
    """

    model: Any
    space: TokenSpace
    audio_step: float | None = None
    speaker_embedding: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.model.model.embed_tokens.weight.device

    def speaking_as(self, embedding: Tensor) -> Reader:
        """The same for a speaker's embedding, (E,).

        Raises:
            UserError: if the model takes none, or one of another length
        """
        dim = embedding_dim(self.model)
        if dim is None:
            raise takes_none()
        if embedding.shape != (dim,):
            found = list(embedding.shape)
            raise UserError(f"a speaker embedding has {dim} numbers for this model, got {found}")
        return replace(self, speaker_embedding=embedding.to(self.device))

    def opened(self, prompt: Sequence[int]) -> list[int]:
        """A prompt up to the first code."""
        ids = list(prompt)
        if self.speaker_embedding is not None:
            ids = with_place(ids, self.space)
        return [*ids, self.space.start_of_ai, self.space.start_of_speech]

    def inputs(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What the network is given for opened prompts.

        Args:
            ids: (B, T)
            mask: (B, T) bool, True where they aren't padding
        """
        one = self.speaker_embedding
        embeddings = None if one is None else one.expand(len(ids), -1)
        return inputs_with_speakers(self.model, ids, mask, self.space.pad_token, embeddings)

    def positions(self, lengths: Tensor, n_codes: int) -> Tensor:
        """(B, 1) of the code behind `n_codes` others, which stand behind `lengths` (B,) ids."""
        if self.audio_step is None:
            return lengths[:, None] + n_codes
        return lengths[:, None] + self.audio_step * (n_codes // self.space.num_codebooks)

    def logits(self, hidden: Tensor, place: int, *, may_end: bool) -> Tensor:
        """(B, V') float32 of the codes of layer `place`, and behind them of the end.

        Args:
            hidden: (B, D)
        """
        ids, end = self.space.layer_ids(place), self.space.end_of_speech
        head = self.model.lm_head
        if not isinstance(head, nn.Linear):  # an adapter is on it
            every = head(hidden)
            parts = every[:, ids.start : ids.stop], every[:, end : end + 1]
        else:
            weight = head.weight
            parts = hidden @ weight[ids.start : ids.stop].T, hidden @ weight[end : end + 1].T
        codes, last = (part.float() for part in parts)
        return torch.cat([codes, last if may_end else torch.full_like(last, -torch.inf)], dim=1)


def steps(
    reader: Reader, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
) -> Iterator[Tensor]:
    """The ids (B,) of each step, on the CPU, until all have ended or may not go on.

    What stands behind a row's end is of no meaning.

    Args:
        prompts: as `tokens.prompt_ids` writes them
        seeds: one for each, so that what a row says doesn't depend on the others
    """
    space = reader.space
    state = _Reading(reader, prompts)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    said = torch.zeros(len(prompts), 0, dtype=torch.long)
    has_ended = torch.zeros(len(prompts), dtype=torch.bool)
    for step in range(sampling.n_steps):
        place = step % space.num_codebooks
        may_end = place == 0 and step > 0
        logits = state.logits(place, may_end=may_end)
        first = space.layer_ids(place).start
        drawn = first + draw(logits, said - first, sampling, generators)
        ids = torch.where(drawn == first + space.codebook_size, space.end_of_speech, drawn)
        said = torch.cat([said, ids[:, None]], dim=1)
        yield ids
        has_ended |= ids == space.end_of_speech
        if bool(has_ended.all()):
            return
        state.read(ids)


def draw(
    logits: Tensor, said: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]
) -> Tensor:
    """(B,) places in `logits` (B, V'), which is changed.

    Args:
        said: (B, N) what each row said before, as places; those outside of `logits` don't matter
    """
    logits = logits.cpu()
    if sampling.repetition_penalty != 1:
        penalize(logits, said[:, -sampling.repetition_window :], sampling.repetition_penalty)
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    shares = nucleus((logits / sampling.temperature).softmax(dim=-1), sampling.top_p)
    rows = zip(shares, generators, strict=True)
    return torch.cat([torch.multinomial(row, 1, generator=chance) for row, chance in rows])


def penalize(logits: Tensor, said: Tensor, penalty: float) -> None:
    """Make what was said less likely (Keskar et al. 2019, CTRL): (B, V') by (B, N), in place."""
    n_codes = logits.shape[1] - 1  # the end is no code
    for row, places in zip(logits, said, strict=True):
        used = places[(places >= 0) & (places < n_codes)].unique()
        row[used] = torch.where(row[used] > 0, row[used] / penalty, row[used] * penalty)


def nucleus(shares: Tensor, top_p: float) -> Tensor:
    """Shares (B, V) without the unlikeliest that aren't needed for `top_p` (Holtzman et al. 2020).

    The likeliest is always kept; what is left isn't scaled to 1.
    """
    if top_p >= 1:
        return shares
    ordered, order = shares.sort(dim=-1)
    dropped = ordered.cumsum(dim=-1) <= 1 - top_p
    dropped[:, -1] = False
    return shares.masked_fill(dropped.scatter(1, order, dropped), 0)


def spoken(
    reader: Reader, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
) -> list[Extracted]:
    """What is said after each prompt; a clip without an end keeps its whole frames."""
    said = torch.stack(list(steps(reader, prompts, sampling, seeds)), dim=1)  # (B, N)
    begin = reader.space.start_of_speech
    return [extract([begin, *row], reader.space) for row in said.tolist()]


def seeds_of(texts: Sequence[str], seed: int) -> list[int]:
    """One for each text: the same text gets the same, and the next when it comes again."""
    return [
        seed_for(seed, "say", text, list(texts[:n]).count(text)) for n, text in enumerate(texts)
    ]


class _Reading:
    """A batch of prompts, read so far, and the model's memory of them."""

    def __init__(self, reader: Reader, prompts: Sequence[Sequence[int]]):
        space, device = reader.space, reader.device
        self.reader, self.n_codes, self.cache = reader, 0, None
        opened = [reader.opened(ids) for ids in prompts]
        self.lengths = torch.tensor([len(ids) for ids in opened], device=device)
        longest = max(len(ids) for ids in opened)
        padded = [[space.pad_token] * (longest - len(ids)) + ids for ids in opened]
        self.mask = torch.arange(longest, device=device) >= longest - self.lengths[:, None]
        # Of pads no one looks at the positions, but they must not count down.
        positions = (self.mask.long().cumsum(dim=1) - 1).clamp(min=0)
        self._forward(reader.inputs(torch.tensor(padded, device=device), self.mask), positions)

    def read(self, ids: Tensor) -> None:
        """Take up the next id (B,) of each."""
        positions = self.reader.positions(self.lengths, self.n_codes)
        self.n_codes += 1
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        self._forward({"input_ids": ids[:, None].to(self.mask.device)}, positions)

    def logits(self, place: int, *, may_end: bool) -> Tensor:
        return self.reader.logits(self.hidden, place, may_end=may_end)

    @torch.no_grad()
    def _forward(self, inputs: dict[str, Tensor], positions: Tensor) -> None:
        # The mask is given even where nothing is padded: without one, positions that don't count up
        # are taken for several clips in a row.
        found = self.reader.model.model(
            **inputs,
            attention_mask=self.mask.long(),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.hidden, self.cache = found.last_hidden_state[:, -1], found.past_key_values
