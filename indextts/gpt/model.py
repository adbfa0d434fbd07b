"""UnifiedVoice v2, IndexTTS2's language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from indextts.config import ConditionConfig, GptConfig
from indextts.gpt.cache import DecodeState, LayerCache
from indextts.gpt.conformer import ConformerEncoder
from indextts.gpt.perceiver import PerceiverResampler
from indextts.gpt.transformer import Transformer
from ttscommon.errors import UserError


@dataclass
class VoiceBatch:
    """Utterances to learn from; whatever stands behind a length is ignored.

    Attributes:
        text: (B, L) long, without start and stop
        text_lengths: (B,) long
        codes: (B, T) long, without start and stop
        code_lengths: (B,) long
        speaker: (B, N, D) from `UnifiedVoice.speaker_latent`
        emotion: (B, D) from `UnifiedVoice.emotion_vector`
        contiguous: number the codes as the base was trained; else as it speaks, see
            `UnifiedVoice.start`
        hides_padding: codes don't see the padding of a shorter text, as when they are written; the
            base was trained seeing it, as further stop tokens
    """

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    speaker: Tensor
    emotion: Tensor
    contiguous: bool = True
    hides_padding: bool = False


@dataclass
class VoiceOutput:
    """What the model says about a `VoiceBatch`.

    Attributes:
        text_logits, mel_logits: (B, L + 2, V) and (B, T + 2, V)
        text_targets, mel_targets: (B, L + 2) and (B, T + 2) long
        text_mask, mel_mask: bool, True on each item's tokens and one stop token
        text_hidden, mel_hidden: (B, L + 2, D) and (B, T + 2, D); the first T vectors of mel_hidden
            are the latents that the acoustic model reads
    """

    text_logits: Tensor
    mel_logits: Tensor
    text_targets: Tensor
    mel_targets: Tensor
    text_mask: Tensor
    mel_mask: Tensor
    text_hidden: Tensor
    mel_hidden: Tensor


@dataclass
class Prefix:
    """Everything that comes before the first code.

    Attributes:
        embeddings: (B, P, D), padded on the left
        mask: (B, P) bool, True on real columns
    """

    embeddings: Tensor
    mask: Tensor


class Positions(nn.Module):
    """A learned vector for every position."""

    def __init__(self, n_positions: int, width: int):
        super().__init__()
        self.emb = nn.Embedding(n_positions, width)

    def forward(self, start: int, n: int) -> Tensor:
        """(n, D), positions start .. start + n - 1"""
        if start + n > self.emb.num_embeddings:
            raise ValueError(f"position {start + n - 1}, but only {self.emb.num_embeddings} exist")
        return self.emb.weight[start : start + n]


def framed(ids: Tensor, lengths: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and mask of one stream of tokens, each (B, n + 2).

    inputs = start, ids, stop; targets = ids, stop, stop. Ids behind a length become stop too, so
    that each item says stop once; the mask leaves the rest out.
    """
    places = torch.arange(ids.shape[1] + 2, device=ids.device)
    stopped = ids.masked_fill(places[: ids.shape[1]] >= lengths[:, None], stop)
    stopped = F.pad(stopped, (0, 1), value=stop)
    inputs, targets = F.pad(stopped, (1, 0), value=start), F.pad(stopped, (0, 1), value=stop)
    return inputs, targets, places < lengths[:, None] + 1


class UnifiedVoice(nn.Module):
    """Speaker, emotion and text -> semantic codes, one transformer over all of them.

    sequence = speaker + emotion (N vectors), speed (2), text, codes. `forward` reads whole
    utterances; `start` and `step` write codes one by one; `latents` reads written codes again and
    gives the hidden states for the acoustic model. Attribute names are the keys of the official
    checkpoints.

    Attributes:
        file_fingerprint: of the file it was read from, see `indextts.weights`
    """

    file_fingerprint: str | None = None

    def __init__(self, config: GptConfig):
        super().__init__()
        self.config = config
        width, n_text = config.model_dim, config.number_text_tokens + 1

        def perceiver(dim: int, n_latents: int, module: ConditionConfig) -> PerceiverResampler:
            n_heads, mult = module.attention_heads, module.perceiver_mult
            return PerceiverResampler(dim, module.output_size, n_latents, n_heads, mult)

        speaker, emotion = config.condition_module, config.emo_condition_module
        self.conditioning_encoder = ConformerEncoder(config.cond_input_dim, speaker)
        self.perceiver_encoder = perceiver(width, config.condition_num_latent, speaker)
        self.emo_conditioning_encoder = ConformerEncoder(config.cond_input_dim, emotion)
        self.emo_perceiver_encoder = perceiver(config.emo_latent_dim, 1, emotion)
        self.emovec_layer = nn.Linear(config.emo_latent_dim, width)
        self.emo_layer = nn.Linear(width, width)
        self.speed_emb = nn.Embedding(2, width)
        self.text_embedding = nn.Embedding(n_text, width)
        self.mel_embedding = nn.Embedding(config.number_mel_codes, width)
        self.text_pos_embedding = Positions(config.max_text_tokens + 2, width)
        self.mel_pos_embedding = Positions(config.max_mel_tokens + 3, width)
        self.gpt = Transformer(width, config.layers, config.heads, config.dropout)
        self.final_norm = nn.LayerNorm(width)
        self.text_head = nn.Linear(width, n_text)
        self.mel_head = nn.Linear(width, config.number_mel_codes)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.speed_emb.weight)

    def speaker_latent(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Who speaks.

        Args:
            features: (B, T, C) normalised w2v-bert features of a reference recording
            mask: (B, T) bool, True on real frames; None when all are

        Returns:
            (B, N, D)
        """
        return self.perceiver_encoder(*self.conditioning_encoder(features, _mask(features, mask)))

    def emotion_vector(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """In which mood: (B, T, C) -> (B, D); arguments as for `speaker_latent`"""
        frames = self.emo_conditioning_encoder(features, _mask(features, mask))
        return self.emo_layer(self.emovec_layer(self.emo_perceiver_encoder(*frames)[:, 0]))

    def conditions(self, speaker: Tensor, emotion: Tensor) -> Tensor:
        """speaker (B, N, D) and emotion (B, D), as the transformer reads them: (B, N + 2, D)"""
        # Both speeds, the second first: duration control never came, but the vectors were trained.
        speeds = self.speed_emb.weight.flip(0).expand(len(speaker), -1, -1)
        return torch.cat([speaker + emotion[:, None], speeds], dim=1)

    def forward(self, batch: VoiceBatch) -> VoiceOutput:
        """Teacher-forced reading of whole utterances."""
        config = self.config
        self._check_length(batch.text.shape[1])
        text_inputs, text_targets, text_mask = framed(
            batch.text, batch.text_lengths, config.start_text_token, config.stop_text_token
        )
        mel_inputs, mel_targets, mel_mask = framed(
            batch.codes, batch.code_lengths, config.start_mel_token, config.stop_mel_token
        )
        conditions = self.conditions(batch.speaker, batch.emotion)
        codes = self._embed_codes(mel_inputs, contiguous=batch.contiguous)
        parts = [conditions, self._embed_text(text_inputs), codes]
        mask = None
        if batch.hides_padding and len(batch.text) > 1:
            n_text = text_inputs.shape[1]
            is_text = torch.arange(n_text, device=codes.device) < batch.text_lengths[:, None] + 2
            around = conditions.shape[1], codes.shape[1]
            mask = _looks_back(F.pad(is_text, around, value=True))
        hidden = self.final_norm(self.gpt(torch.cat(parts, dim=1), mask))
        _, text_hidden, mel_hidden = hidden.split([part.shape[1] for part in parts], dim=1)
        return VoiceOutput(
            text_logits=self.text_head(text_hidden),
            mel_logits=self.mel_head(mel_hidden),
            text_targets=text_targets,
            mel_targets=mel_targets,
            text_mask=text_mask,
            mel_mask=mel_mask,
            text_hidden=text_hidden,
            mel_hidden=mel_hidden,
        )

    def prefix(self, speaker: Tensor, emotion: Tensor, texts: Sequence[Sequence[int]]) -> Prefix:
        """What is known before the first code is written, padded on the left.

        Args:
            speaker: (B, N, D), or (1, N, D) for all texts
            emotion: (B, D) or (1, D)
            texts: B lists of token ids; start and stop ids among them are dropped
        """
        config = self.config
        ends = (config.start_text_token, config.stop_text_token)
        rows = []
        for text in texts:
            ids = [i for i in text if i not in ends]
            self._check_length(len(ids))
            framed_ids = torch.tensor([ends[0], *ids, ends[1]], device=speaker.device)
            rows.append(self._embed_text(framed_ids[None])[0])
        conditions = self.conditions(
            speaker.expand(len(rows), -1, -1), emotion.expand(len(rows), -1)
        )
        rows = [torch.cat(pair) for pair in zip(conditions, rows, strict=True)]
        lengths = torch.tensor([len(row) for row in rows], device=speaker.device)
        embeddings = pad_sequence(rows, batch_first=True, padding_side="left")
        n = embeddings.shape[1]
        mask = torch.arange(n, device=speaker.device) >= n - lengths[:, None]
        return Prefix(embeddings, mask)

    @torch.no_grad()
    def start(self, prefix: Prefix, *, contiguous: bool = False) -> tuple[Tensor, DecodeState]:
        """Read the prefix and the start token: logits (B, V) of the first code, and the state.

        Args:
            contiguous: number the codes as the base was trained. The original numbers the start
                token 0 and the first code 2, never using 1, and so does the default.
        """
        x, mask = self._after(prefix, self._start(len(prefix.mask)))
        caches = [LayerCache() for _ in self.gpt.h]
        hidden = self.gpt(x, _causal(mask), caches)
        state = DecodeState(caches, None if mask.all() else mask, x.shape[1], contiguous)
        return self._mel_logits(hidden[:, -1]), state

    @torch.no_grad()
    def step(self, codes: Tensor, state: DecodeState) -> Tensor:
        """Feed the last codes (B,) and return the logits (B, V) of the next."""
        x = self.mel_embedding(codes[:, None]) + self.mel_pos_embedding(state.position, 1)
        hidden = self.gpt(x, state.mask(), state.layers)
        state.n_codes += 1
        return self._mel_logits(hidden[:, -1])

    def latents(self, prefix: Prefix, codes: Tensor) -> Tensor:
        """The second pass: hidden states for the acoustic model, numbered as the base was trained.

        Args:
            codes: (B, T) long, without start and stop; padding on the right changes nothing

        Returns:
            (B, T, D), vector t is the one that predicts code t
        """
        mel = torch.cat([self._start(len(codes)), codes], dim=1)[:, :-1]
        x, mask = self._after(prefix, mel)
        return self.final_norm(self.gpt(x, _causal(mask))[:, -mel.shape[1] :])

    def _start(self, n_rows: int) -> Tensor:
        """(B, 1) long"""
        shape = (n_rows, 1)
        return torch.full(shape, self.config.start_mel_token, device=self.mel_head.weight.device)

    def _after(self, prefix: Prefix, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix, then mel tokens (B, n): embeddings (B, P + n, D) and their mask."""
        x = torch.cat([prefix.embeddings, self._embed_codes(mel)], dim=1)
        return x, F.pad(prefix.mask, (0, mel.shape[1]), value=True)

    def _mel_logits(self, hidden: Tensor) -> Tensor:
        return self.mel_head(self.final_norm(hidden))

    def _embed_text(self, ids: Tensor) -> Tensor:
        return self.text_embedding(ids) + self.text_pos_embedding(0, ids.shape[1])

    def _embed_codes(self, ids: Tensor, *, contiguous: bool = True) -> Tensor:
        """The start token and codes (B, n): (B, n, D), numbered as `start` says."""
        places = self.mel_pos_embedding(0, ids.shape[1])
        if not contiguous:
            places = torch.cat([places[:1], self.mel_pos_embedding(2, ids.shape[1] - 1)])
        return self.mel_embedding(ids) + places

    def _check_length(self, n: int) -> None:
        if n > self.config.max_text_tokens:
            raise UserError(
                f"a text of {n} tokens, but the model reads {self.config.max_text_tokens} at most",
                fix="split it into shorter segments",
            )


def _mask(features: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T) bool"""
    if mask is not None:
        return mask
    return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)


def _causal(mask: Tensor) -> Tensor | None:
    """Who may look at whom, (B, 1, T, T) bool, given the real columns (B, T); None: plainly causal.

    Padding looks at itself, as looking nowhere would make it nan.
    """
    return None if mask.all() else _looks_back(mask)


def _looks_back(mask: Tensor) -> Tensor:
    n = mask.shape[1]
    looks_back = torch.ones(n, n, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(n, dtype=torch.bool, device=mask.device)
    return ((looks_back & mask[:, None, :]) | itself)[:, None]
