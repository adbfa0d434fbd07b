"""Writing codes: greedy, sampling and beam search, for several texts at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from indextts.config import DecodingConfig, GptConfig
from indextts.gpt.model import Prefix
from indextts.gpt.processors import draw, process
from ttscommon.errors import UserError

# The original hands its generator ids of 1 in place of the prefix, so its penalty sees code 1.
PENALISED_FROM_THE_START = 1
CLOSED = -1e9  # score of beams that don't exist yet
OnEnd = Callable[[int, int], None]  # row of the prefix, steps that were taken


class State(Protocol):
    """What a writer remembers of the rows it writes."""

    def select(self, rows: Tensor) -> None: ...

    def reorder(self, rows: Tensor) -> None: ...


class Writer(Protocol):
    """What codes are written by: `UnifiedVoice`, or `FixedVoice` in its place."""

    @property
    def config(self) -> GptConfig: ...

    @property
    def mel_head(self) -> nn.Linear: ...

    def start(self, prefix: Prefix, *, contiguous: bool = False) -> tuple[Tensor, Any]: ...

    def step(self, codes: Tensor, state: Any) -> Tensor: ...


@dataclass(frozen=True)
class Written:
    """What was written for one text.

    Attributes:
        codes: (n,) long, without the stop token
        is_complete: a stop token came before the limit
        score: sum of the chosen scores of the best beam; None without beams
    """

    codes: Tensor
    is_complete: bool
    score: float | None = None


def generate(
    model: Writer,
    prefix: Prefix,
    config: DecodingConfig,
    seeds: Sequence[int],
    on_end: OnEnd | None = None,
) -> list[Written]:
    """Write the codes of every row of a prefix.

    Args:
        seeds: one per row; a row draws the same codes in whatever batch it stands. Without
            sampling they change nothing.
        on_end: told of every row that ends by itself, as soon as it does
    """
    if len(seeds) != len(prefix.mask):
        raise ValueError(f"{len(seeds)} seeds for {len(prefix.mask)} rows")
    require_room(model.config, config)
    if config.num_beams > 1:
        return _search(model, prefix, config, seeds, on_end or _ignore)
    return _follow(model, prefix, config, seeds, on_end or _ignore)


def _ignore(_row: int, _n_steps: int) -> None:
    pass


def require_room(model: GptConfig, config: DecodingConfig) -> None:
    """Refuse more codes than a model has positions for.

    Raises:
        UserError: with the most it has
    """
    if config.max_mel_tokens > model.max_mel_tokens:
        raise UserError(
            f"max_mel_tokens {config.max_mel_tokens}, but this model has positions for "
            f"{model.max_mel_tokens}"
        )


def used_at_the_start(model: Writer, n_rows: int) -> Tensor:
    """Codes that the repetition penalty sees before any is written: (B, V) bool"""
    weight = model.mel_head.weight
    used = torch.zeros(n_rows, len(weight), dtype=torch.bool, device=weight.device)
    used[:, [PENALISED_FROM_THE_START, model.config.start_mel_token]] = True
    return used


def _require_numbers(are_there: bool) -> None:
    if not are_there:
        raise UserError(
            "the language model computes NaN or infinity instead of likelihoods",
            fix="--amp no; if that doesn't help, fetch the weights again, or take another "
            "recording or adapter",
        )


def _chances(seeds: Sequence[int], n_steps: int, n_draws: int, device: torch.device) -> Tensor:
    """Every number the rows will draw by: (B, n_steps, n_draws) float64"""
    return torch.stack(
        [
            torch.rand(
                n_steps, n_draws, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
            )
            for seed in seeds
        ]
    ).to(device)


@torch.no_grad()
def _follow(
    model: Writer, prefix: Prefix, config: DecodingConfig, seeds: Sequence[int], on_end: OnEnd
) -> list[Written]:
    """One path per row; a row that has stopped leaves the batch."""
    stop, device = model.config.stop_mel_token, prefix.mask.device
    n_rows, n_steps = len(seeds), config.max_mel_tokens
    chances = _chances(seeds, n_steps if config.do_sample else 0, 1, device)
    codes = torch.full((n_rows, n_steps), stop, device=device)
    rows = torch.arange(n_rows, device=device)  # those still being written
    used = used_at_the_start(model, n_rows)
    logits, state = model.start(prefix, contiguous=config.contiguous_positions)
    for step in range(n_steps):
        is_sound = logits.isfinite().all()
        scores = process(logits.float(), used, config)
        if config.do_sample:
            chosen = draw(scores.softmax(-1), chances[rows, step])[:, 0]
        else:
            chosen = scores.argmax(-1)
        codes[rows, step] = chosen
        going_on = chosen != stop
        # Together, as each answer has to be waited for.
        all_go_on, has_numbers = torch.stack([going_on.all(), is_sound]).tolist()
        _require_numbers(has_numbers)
        if not all_go_on:
            for row in rows[~going_on].tolist():
                on_end(row, step)
            rows, chosen, used = rows[going_on], chosen[going_on], used[going_on]
            state.select(going_on.nonzero()[:, 0])
        if not len(rows) or step + 1 == n_steps:
            break
        used.scatter_(1, chosen[:, None], True)
        logits = model.step(chosen, state)
    lengths = (codes != stop).sum(1).tolist()
    return [Written(row[:n], n < n_steps) for row, n in zip(codes, lengths, strict=True)]


@dataclass(frozen=True)
class _Path:
    """The codes of a beam, last one first: beams share what they have in common."""

    code: int
    before: _Path | None

    def codes(self) -> list[int]:
        found, path = [], self
        while path is not None:
            found.append(path.code)
            path = path.before
        return found[::-1]


@dataclass
class _Utterance:
    """The open beams of one text and the best closed ones."""

    row: int
    paths: list[_Path | None]
    closed: list[tuple[float, _Path | None, bool]] = field(default_factory=list)

    def close(self, score: float, path: _Path | None, *, is_complete: bool) -> None:
        """Keep a finished beam if it is among the best."""
        self.closed.append((score, path, is_complete))
        if len(self.closed) > len(self.paths):
            self.closed.remove(min(self.closed, key=lambda beam: beam[0]))

    def is_done(self, best_possible: float) -> bool:
        """No open beam can beat the closed ones any more."""
        full = len(self.closed) == len(self.paths)
        return full and min(beam[0] for beam in self.closed) >= best_possible

    def best(self, device: torch.device) -> Written:
        score, path, is_complete = max(reversed(self.closed), key=lambda beam: beam[0])
        codes = torch.tensor(path.codes() if path else [], dtype=torch.long, device=device)
        return Written(codes, is_complete, score)


class _Beams:
    """All open beams: row i * num_beams + j of the batch is beam j of utterance i."""

    def __init__(self, model: Writer, config: DecodingConfig, n_rows: int):
        self.config, self.stop = config, model.config.stop_mel_token
        n_beams, device = config.num_beams, model.mel_head.weight.device
        self.open = [_Utterance(row, [None] * n_beams) for row in range(n_rows)]
        self.used = used_at_the_start(model, n_rows * n_beams)
        # All beams of a text begin equal: only the first counts in the first step.
        self.scores = torch.zeros(n_rows, n_beams, device=device)
        self.scores[:, 1:] = CLOSED

    def candidates(self, logits: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
        """The 2 * num_beams best or drawn ways to go on, best first.

        Args:
            logits: (I * num_beams, V)
            chances: (N, 2 * num_beams) of this step for all utterances

        Returns:
            scores and places beam * V + code, each (I, 2 * num_beams)
        """
        n_beams = self.config.num_beams
        likelihoods = logits.float().log_softmax(-1)
        scores = process(likelihoods, self.used, self.config)
        scores = (scores.unflatten(0, (-1, n_beams)) + self.scores[..., None]).flatten(1)
        # NaN in any likelihood is NaN in all results, where `advance` sees it without waiting.
        scores = scores.masked_fill(likelihoods.isnan().any(), torch.nan)
        if not self.config.do_sample:
            best = scores.topk(2 * n_beams)
            return best.values, best.indices
        rows = [utterance.row for utterance in self.open]
        places = draw(scores.softmax(-1), chances[rows])
        drawn, order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
        return drawn, places.gather(1, order)

    def advance(self, scores: Tensor, places: Tensor, n_codes: int) -> tuple[list[int], list[int]]:
        """Close beams that stop, let the others go on, take utterances that are done off the list.

        Args:
            n_codes: codes before this step's

        Returns:
            for every beam still open the batch row it goes on from, and its new code
        """
        n_codes_in_vocabulary, n_beams = self.used.shape[1], self.config.num_beams
        still_open, sources, codes, kept_scores = [], [], [], []
        for i, utterance in enumerate(self.open):
            beams: list[tuple[int, _Path, float]] = []
            ways = list(zip(scores[i].tolist(), places[i].tolist(), strict=True))
            _require_numbers(not math.isnan(ways[0][0]))
            for rank, (score, place) in enumerate(ways):
                beam, code = divmod(place, n_codes_in_vocabulary)
                path = utterance.paths[beam]
                if code != self.stop:
                    beams.append((beam, _Path(code, path), score))
                elif rank < n_beams and score > -torch.inf:
                    utterance.close(self._final(score, n_codes + 1), path, is_complete=True)
                if len(beams) == n_beams:
                    break
            utterance.paths = [path for _, path, _ in beams]
            if utterance.is_done(self._final(ways[0][0], n_codes + 1)):
                continue
            still_open.append(utterance)
            sources += [i * n_beams + beam for beam, _, _ in beams]
            codes += [path.code for _, path, _ in beams]
            kept_scores.append([score for _, _, score in beams])
        self.open = still_open
        self.scores = scores.new_tensor(kept_scores)
        return sources, codes

    def close_all(self, n_codes: int) -> None:
        """The limit is reached: open beams count as they are."""
        for utterance, scores in zip(self.open, self.scores.tolist(), strict=True):
            for path, score in zip(utterance.paths, scores, strict=True):
                utterance.close(self._final(score, n_codes), path, is_complete=False)

    def _final(self, score: float, n_tokens: int) -> float:
        """As transformers has it: the stop counts as a token too."""
        return score / n_tokens**self.config.length_penalty


@torch.no_grad()
def _search(
    model: Writer, prefix: Prefix, config: DecodingConfig, seeds: Sequence[int], on_end: OnEnd
) -> list[Written]:
    """Beam search, or beam sampling; an utterance that is done leaves the batch."""
    device, n_beams, n_steps = prefix.mask.device, config.num_beams, config.max_mel_tokens
    chances = _chances(seeds, n_steps if config.do_sample else 0, 2 * n_beams, device)
    beams = _Beams(model, config, len(seeds))
    everyone = list(beams.open)
    logits, state = model.start(prefix, contiguous=config.contiguous_positions)
    first = torch.arange(len(seeds), device=device).repeat_interleave(n_beams)
    state.select(first)
    logits = logits[first]
    for step in range(n_steps):
        found = beams.candidates(logits, chances[:, step] if config.do_sample else chances)
        before = beams.open
        sources, codes = beams.advance(*found, step)
        for row in {each.row for each in before} - {each.row for each in beams.open}:
            on_end(row, step)
        if not beams.open or step + 1 == n_steps:
            break
        rows = torch.tensor(sources, device=device)
        chosen = torch.tensor(codes, device=device)
        _go_on_from(state, rows, n_rows=len(logits))
        beams.used = beams.used[rows].scatter(1, chosen[:, None], True)
        logits = model.step(chosen, state)
    beams.close_all(n_steps)
    return [utterance.best(device) for utterance in everyone]


def _go_on_from(state: State, rows: Tensor, n_rows: int) -> None:
    """Bring the cache in line with the beams that were kept."""
    if len(rows) < n_rows:
        state.select(rows)
    else:
        state.reorder(rows)
