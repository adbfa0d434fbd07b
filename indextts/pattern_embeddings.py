"""A manner of speaking as a few learned vectors among those that tell the model who speaks.

tokens = scale * (W2 gelu(LayerNorm(W1 P + b1)) + b2), the form of the public pattern embedding for
IndexTTS2, whose files are read too. They go into the speaker's latents before the mood is added.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from indextts.gpt.model import UnifiedVoice
from indextts.tensors import read_tensors
from indextts.weights import fingerprint
from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.seeds import seed_for

FORMAT, VERSION = "indextts.pattern_embedding", 1
MODEL_VERSION = "2.0"
MADE_BY = "python tools/train_pattern_embeddings.py --speaker NAME"

InjectionMode = Literal["add", "prepend", "replace_first"]
Initialization = Literal["neutral", "reference"]
INJECTION_MODES: tuple[InjectionMode, ...] = get_args(InjectionMode)
STATE = ("pattern_tokens", "pattern_scale", "pattern_proj.", "pattern_gate")


@dataclass(frozen=True, kw_only=True)
class PatternOrigin:
    """What a pattern was made for, and from what; it is written into its file.

    Attributes:
        base: `indextts.weights.fingerprint` of the language model it was trained on
        tokenizer: hash of what turned the texts into tokens
        silence_codes: codes that are silence in the speaker's own recordings
        rates: of the recordings, such as pauses a minute
        training: steps, losses, number of clips
        model_version: of IndexTTS
    """

    base: str = ""
    tokenizer: str = ""
    silence_codes: tuple[int, ...] = ()
    rates: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    model_version: str = MODEL_VERSION


class PatternEmbedding(nn.Module):
    """Pattern tokens with their projection.

    Args:
        model_dim: D, width of the language model
        num_pattern_tokens: P
        hidden_dim: of the tokens before they are projected; None: D
        init_std: of the tokens at first
        injection_mode: how they come among the speaker's N latents: added to the first P, put
            before them, or in their place
        initialization: "neutral" begins without effect, "reference" with noise as loud as the
            latents. Before the latents even zeros are read, so there "neutral" begins with zeros

    Attributes:
        origin: what it was made for
    """

    def __init__(
        self,
        model_dim: int = 1024,
        num_pattern_tokens: int = 4,
        hidden_dim: int | None = None,
        init_std: float = 0.02,
        *,
        injection_mode: InjectionMode = "add",
        initialization: Initialization = "neutral",
        origin: PatternOrigin | None = None,
    ):
        super().__init__()
        if injection_mode not in INJECTION_MODES:
            fix = f"one of {', '.join(INJECTION_MODES)}"
            raise UserError(f"injection_mode is '{injection_mode}'", fix=fix)
        self.model_dim, self.num_pattern_tokens = model_dim, num_pattern_tokens
        self.hidden_dim = hidden_dim or model_dim
        self.injection_mode: InjectionMode = injection_mode
        self.origin = origin or PatternOrigin()
        self.pattern_tokens = nn.Parameter(
            init_std * torch.randn(num_pattern_tokens, self.hidden_dim)
        )
        first, last = nn.Linear(self.hidden_dim, model_dim), nn.Linear(model_dim, model_dim)
        self.pattern_proj = nn.Sequential(first, nn.LayerNorm(model_dim), nn.GELU(), last)
        self.pattern_scale = nn.Parameter(torch.ones(1))
        for layer in (first, last):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        is_neutral = initialization == "neutral"
        # What is replaced differs from prompt to prompt, so no token could stand for it: the way
        # from the latent to the token is gone gradually, and its length is learned.
        gated = is_neutral and injection_mode == "replace_first"
        self.pattern_gate = nn.Parameter(torch.zeros(num_pattern_tokens)) if gated else None
        if is_neutral and not gated:
            nn.init.zeros_(last.weight)

    def forward(self, batch_size: int = 1) -> Tensor:
        """The tokens: (B, P, D)"""
        tokens = self.pattern_scale * self.pattern_proj(self.pattern_tokens)
        return tokens.expand(batch_size, -1, -1)

    def get_injection_embedding(
        self, conditioning: Tensor, injection_mode: str | None = None, *, scale: float = 1.0
    ) -> Tensor:
        """The speaker's latents with the pattern among them.

        Args:
            conditioning: (B, N, D) from `UnifiedVoice.speaker_latent`
            injection_mode: the one it was trained with, or None
            scale: 1 as it was trained, 0 without effect

        Returns:
            (B, N, D), or (B, P + N, D) with "prepend", unless `scale` is 0

        Raises:
            UserError: for another mode than its own, or a scale that is no number
        """
        self.require_mode(injection_mode)
        return self._among(conditioning, self(len(conditioning)), scale)

    def shuffled(self, conditioning: Tensor, seed: int = 0) -> Tensor:
        """As `get_injection_embedding`, with each token's numbers in another order.

        Tokens stay as long as they are, and as alike, so this tells what any disturbance of that
        strength does.
        """
        chance = torch.Generator().manual_seed(seed_for(seed, "shuffled pattern"))
        order = torch.randperm(self.model_dim, generator=chance).to(conditioning.device)
        return self._among(conditioning, self(len(conditioning))[..., order], 1.0)

    @torch.no_grad()
    def norm_ratio(self, conditioning: Tensor) -> float:
        """Mean length of a token, divided by that of a latent of (B, N, D).

        Tokens of several times the latents' length were seen where the learning rate was too high.
        """
        lengths = self().float().norm(dim=-1).mean(), conditioning.float().norm(dim=-1).mean()
        return float(lengths[0] / lengths[1].clamp(min=1e-9))

    def save(self, path: Path | str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a `.pt` file of tensors and plain values, in the public program's layout.

        Args:
            metadata: further plain values to keep in it
        """
        state = {key: value.detach().cpu().clone() for key, value in self.state_dict().items()}
        config = {
            "model_dim": self.model_dim,
            "num_pattern_tokens": self.num_pattern_tokens,
            "hidden_dim": self.hidden_dim,
        }
        about = {
            **(metadata or {}),
            **_plain(asdict(self.origin)),
            "format": FORMAT,
            "version": VERSION,
            "injection_mode": self.injection_mode,
        }
        with atomic(Path(path)) as draft:
            torch.save({"state_dict": state, "config": config, "metadata": about}, draft)

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: torch.device | str = "cpu",
        injection_mode: str | None = None,
    ) -> PatternEmbedding:
        """Read what `save` wrote, or the public program did, in eval mode.

        Args:
            injection_mode: refuse another one; needed for files that don't say which it is

        Raises:
            UserError: if the file is missing, broken, no pattern, of another mode or version, or
                holds NaN
        """
        where = Path(path)
        state, about = _read(where)
        mode = about.get("injection_mode") or injection_mode
        if mode not in INJECTION_MODES:
            raise UserError(
                f"this pattern doesn't say how it goes in ({mode})",
                where=where,
                fix=f"--injection-mode, one of {', '.join(INJECTION_MODES)}, as it was trained",
            )
        tokens, inner = state["pattern_tokens"], state["pattern_proj.3.weight"]
        pattern = cls(len(inner), *tokens.shape, injection_mode=mode, initialization="reference")
        if "pattern_gate" in state:
            pattern.pattern_gate = nn.Parameter(torch.zeros(len(tokens)))
        expected = {key: tuple(value.shape) for key, value in pattern.state_dict().items()}
        if expected != {key: tuple(value.shape) for key, value in state.items()}:
            raise UserError("tensors of this pattern don't fit together", where=where, fix=MADE_BY)
        pattern.load_state_dict(state)
        pattern.origin = _origin(about, where)
        if injection_mode is not None:
            pattern.require_mode(injection_mode, where)
        return pattern.to(device).eval().requires_grad_(False)

    def require_mode(self, mode: str | None, where: Path | None = None) -> None:
        """Refuse another way of going in than it was trained with; None is any.

        Raises:
            UserError: naming both
        """
        if mode is not None and mode != self.injection_mode:
            raise UserError(
                f"this pattern was trained with injection mode '{self.injection_mode}', not "
                f"'{mode}'",
                where=where,
                fix=f"--injection-mode {self.injection_mode}, or leave it out",
            )

    def _among(self, speaker: Tensor, tokens: Tensor, scale: float) -> Tensor:
        require_scale(scale)
        if speaker.shape[-1] != self.model_dim:
            raise UserError(
                f"a pattern {self.model_dim} wide, this model is {speaker.shape[-1]} wide",
                fix="use the model it was trained on",
            )
        tokens = tokens.to(speaker.dtype)
        if self.injection_mode == "prepend":
            return torch.cat([scale * tokens, speaker], dim=1) if scale else speaker
        k = min(tokens.shape[1], speaker.shape[1])
        first, rest, tokens = speaker[:, :k], speaker[:, k:], tokens[:, :k]
        if self.injection_mode == "add":
            return torch.cat([first + scale * tokens, rest], dim=1)
        gate = torch.ones(k, device=speaker.device)
        if self.pattern_gate is not None:
            gate = self.pattern_gate[:k]
        gate = (scale * gate).to(speaker.dtype)[:, None]  # (k, 1)
        return torch.cat([torch.lerp(first, tokens, gate), rest], dim=1)


def require_fit(pattern: PatternEmbedding, gpt: UnifiedVoice, where: Path | None = None) -> None:
    """Refuse a pattern that was trained on another language model.

    Files of the public program don't say which it was; of these the width is looked at.

    Raises:
        UserError: naming both
    """
    if pattern.model_dim != gpt.config.model_dim:
        raise UserError(
            f"a pattern {pattern.model_dim} wide, this model is {gpt.config.model_dim} wide",
            where=where,
            fix="use the model it was trained on",
        )
    wanted, found = pattern.origin.base, fingerprint(gpt)
    if wanted and wanted != found:
        raise UserError(
            f"this pattern was trained on another base ({wanted[:12]}, loaded is {found[:12]})",
            where=where,
            fix="load the GPT it was trained on, or train it again",
        )


def require_scale(scale: float) -> None:
    """Refuse a strength that is no number.

    Raises:
        UserError: naming it
    """
    if not math.isfinite(scale):
        raise UserError(f"pattern_scale is {scale}", fix="--pattern-scale 1.0")


@torch.no_grad()
def pattern_effect(gpt: UnifiedVoice, pattern: PatternEmbedding, *, scale: float = 1.0) -> float:
    """How far the pattern moves the first code's logits at most, for a made-up speaker and text."""
    config, weight = gpt.config, gpt.mel_head.weight
    chance = torch.Generator().manual_seed(seed_for("pattern effect"))
    shape = (1, config.condition_num_latent, config.model_dim)
    speaker = torch.randn(shape, generator=chance).to(weight.device, weight.dtype)
    n_text = min(8, config.max_text_tokens)
    text = torch.randint(2, config.number_text_tokens, (n_text,), generator=chance).tolist()
    both = speaker, pattern.get_injection_embedding(speaker, scale=scale)
    off, on = (gpt.start(gpt.prefix(told, speaker[:, 0], [text]))[0] for told in both)
    return float((on - off).abs().max())


def _plain(value: Any) -> Any:
    """Tuples as lists and mappings as dictionaries, which `weights_only` reads everywhere."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The tensors, and what the file says of itself."""
    if not path.is_file():
        raise UserError("no pattern embedding here", where=path, fix=MADE_BY)
    tensors = read_tensors(path, mmap=False, fix=MADE_BY)
    state = {key.removeprefix("state_dict."): value for key, value in tensors.items()}
    lacking = {"pattern_tokens", "pattern_scale", "pattern_proj.0.weight", "pattern_proj.3.weight"}
    lacking -= set(state)
    if lacking:
        what = f"no pattern embedding: it lacks {', '.join(sorted(lacking))}"
        raise UserError(what, where=path, fix=MADE_BY)
    state = {key: value.float() for key, value in state.items() if key.startswith(STATE)}
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise UserError(f"{broken[0]} holds NaN or infinity", where=path, fix=MADE_BY)
    if state["pattern_tokens"].dim() != 2 or state["pattern_proj.3.weight"].dim() != 2:
        raise UserError("tensors of this pattern don't fit together", where=path, fix=MADE_BY)
    try:
        about = torch.load(path, map_location="cpu", weights_only=True).get("metadata")
    except (pickle.UnpicklingError, AttributeError):  # a file of tensors only
        about = None
    return state, about if isinstance(about, Mapping) else {}


def _origin(about: Mapping[str, Any], where: Path) -> PatternOrigin:
    if about.get("format") != FORMAT:
        return PatternOrigin()
    if about.get("version") != VERSION:
        what = f"a pattern of version {about.get('version')}, this program knows {VERSION}"
        raise UserError(what, where=where, fix=MADE_BY)
    fields = {name: about[name] for name in PatternOrigin.__dataclass_fields__ if name in about}
    origin = PatternOrigin(**{**fields, "silence_codes": tuple(fields.get("silence_codes", ()))})
    if origin.model_version != MODEL_VERSION:
        what = f"a pattern for IndexTTS {origin.model_version}, this is {MODEL_VERSION}"
        raise UserError(what, where=where, fix=MADE_BY)
    return origin
