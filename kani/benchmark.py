"""How fast recordings become codes, codes sound, and clips a trained adapter here.

Weights are random, in the released sizes; that changes no time. What is compared is done in turns,
so that a busy moment of the machine meets all of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import save_file
from torch import Tensor

from kani.codec import NanoCodec, NanoCodecConfig
from kani.codec_kernels import EPSILON, LEAK
from kani.codec_layers import Conv, HalfSnake, ResidualLayer
from kani.config import PrepareConfig
from kani.dataset import KaniPlan
from kani.miniature import NETWORK
from kani.nemo_codec import NemoCodec
from kani.preprocess import prepare
from kani.tasks import KaniStage
from kani.tokens import TokenSpace, interleave, training_sequence
from kani.train import target_layers
from ttscommon import audio, lora
from ttscommon.batching import move
from ttscommon.errors import UserError
from ttscommon.manifest import match_transcripts, read_transcripts
from ttscommon.metering import Meter
from ttscommon.workspace import Speaker, SystemFolder

LFM2: dict[str, Any] = {
    **NETWORK,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "block_ff_dim": 6656,
    "block_multiple_of": 256,
}
ATTENTION = (2, 5, 8, 10, 12, 14)  # of the 16 layers; the others are convolutions
TARGETS = ("q_proj", "v_proj", "w1", "w2", "w3")
LETTERS_PER_TOKEN = 4  # of English; an estimate, for the released tokenizer isn't at hand
HERE, PLAIN = "here", "plain"


@dataclass(frozen=True, kw_only=True)
class KaniWork:
    """What is done.

    Attributes:
        layers: of the language model, the last of its 16; 0: a miniature of model and codec
        seconds: of sound, for the codec
        clips: recordings of `input` and their texts, at most; 0: all
        batch_size: clips in a step
        amp: precision of training, of the public way as well
        repeats: rounds of which the median counts; preparing is done once
    """

    input: Path
    layers: int = 3
    seconds: float = 10.0
    clips: int = 0
    batch_size: int = 8
    lora_rank: int = 16
    amp: Literal["no", "bf16"] = "no"
    repeats: int = 3
    warmups: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.layers <= 16 or min(self.batch_size, self.repeats, self.lora_rank) < 1:
            raise UserError("layers are 0 to 16; batches, repeats and the rank 1 or more")
        if self.seconds < 0.1 or min(self.clips, self.warmups) < 0:
            raise UserError("seconds are 0.1 or more, clips and warmups 0 or more")


@dataclass(frozen=True)
class Speed:
    """What one way to do something took.

    Attributes:
        task: encode, decode, prepare or train
        rate: in `unit`
        gain: how much faster than the last way of the same task
    """

    task: str
    way: str
    seconds: float
    rate: float
    unit: str
    gain: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def speeds(work: KaniWork, tasks: Collection[str], meter: Meter) -> Iterator[Speed]:
    """Of the tasks: codec, prepare, train."""
    if "codec" in tasks:
        yield from codec_speeds(work, meter)
    if "prepare" in tasks:
        yield prepare_speed(work, meter)
    if "train" in tasks:
        yield from training_speeds(work, meter)


def codec_speeds(work: KaniWork, meter: Meter) -> Iterator[Speed]:
    """Encoding and decoding, beside the graph as it is written; and NeMo's, if it is installed."""
    codec = _codec(work).to(meter.device)
    hop = codec.config.samples_per_frame
    chance = torch.Generator().manual_seed(work.seed)
    n_frames = max(1, round(work.seconds * codec.config.frame_rate))
    sound = 0.1 * torch.randn(1, n_frames * hop, generator=chance)
    shape = 1, codec.config.n_codebooks, n_frames
    codes = torch.randint(0, codec.config.codebook_size, shape, generator=chance)
    sound, codes = sound.to(meter.device), codes.to(meter.device)
    seconds = n_frames / codec.config.frame_rate
    encoding: dict[str, Callable[[], Tensor]] = {
        HERE: lambda: codec.encode(sound)[0],
        PLAIN: lambda: plainly_encoded(codec, sound),
    }
    decoding: dict[str, Callable[[], Tensor]] = {
        HERE: lambda: codec.decode(codes),
        PLAIN: lambda: plainly_decoded(codec, codes),
    }
    nemo = _nemo(codec) if meter.device.type == "cpu" else None
    if nemo is not None:
        encoding["NeMo"], decoding["NeMo"] = lambda: nemo.encode(sound), lambda: nemo.decode(codes)
    yield from _in_turns("encode", encoding, work, meter, seconds, "x real time")
    yield from _in_turns("decode", decoding, work, meter, seconds, "x real time")


def _nemo(codec: NanoCodec) -> NemoCodec | None:
    try:
        return NemoCodec(codec)
    except ImportError:
        return None  # it isn't installed, or not with what it needs for speech


def prepare_speed(work: KaniWork, meter: Meter) -> Speed:
    """From recordings to a data set of codes, in one process, as `kani_prepare` does it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "codec.safetensors"
        save_file(_codec(work).state_dict(), weights)
        speaker = Speaker("clips", folder / "training")
        speaker.clips_folder.mkdir(parents=True)
        for path, text in _clips(work):
            place = shutil.copyfile(path, speaker.clips_folder / path.name)
            place.with_suffix(".txt").write_text(text, encoding="utf-8")

        def action() -> Any:
            output = SystemFolder(folder / "kani")
            config = PrepareConfig(min_duration=0, max_duration=1e9, workers=1)
            return prepare(speaker, output, weights, config, space=TokenSpace(),
                           device=str(meter.device))  # fmt: skip

        found = meter.measure(action)
    n_clips = found.result.n_clips
    return Speed("prepare", HERE, found.seconds, n_clips / found.seconds, "clips/s")


def training_speeds(work: KaniWork, meter: Meter) -> Iterator[Speed]:
    """An epoch of the same clips in the same steps: packed, padded, one clip at a time.

    The last is how the public pipeline does it: transformers' own loss of single clips, added up
    until as many were seen as a batch has here.
    """
    space, stage = TokenSpace(), _stage(work).to(meter.device)
    rows = _rows(work, space)
    plans = {
        name: KaniPlan(rows, space, batch_size=work.batch_size, packing=name == "packed")
        for name in ("packed", "padded")
    }
    trained = [p for p in stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def precision() -> torch.autocast:
        return torch.autocast(meter.device.type, torch.bfloat16, enabled=work.amp == "bf16")

    def in_batches(plan: KaniPlan) -> bool:
        for key in plan.epoch(0):
            with precision():
                loss = stage(move(plan.load(key), meter.device)).total
            loss.backward()
            step()
        return True

    def one_by_one() -> bool:
        for number in range(len(rows)):
            ids = plans["padded"].clip(number).ids[None].to(meter.device)
            mask = torch.ones_like(ids)
            with precision():
                loss = stage.model(input_ids=ids, attention_mask=mask, labels=ids).loss
            (loss / work.batch_size).backward()
            if (number + 1) % work.batch_size == 0 or number + 1 == len(rows):
                step()
        return True

    ways: dict[str, Callable[[], Any]] = {
        name: lambda plan=plan: in_batches(plan) for name, plan in plans.items()
    }
    n_tokens = int(plans["padded"].lengths.sum())
    ways["one clip at a time"] = one_by_one
    yield from _in_turns("train", ways, work, meter, n_tokens, "tokens/s")


@torch.no_grad()
def plainly_encoded(codec: NanoCodec, sound: Tensor) -> Tensor:
    """Codes (B, K, T) of (B, T * samples_per_frame), layer by layer in torch's own order."""
    encoder: Any = codec.audio_encoder
    x = _plain_conv(encoder.pre_conv, sound[:, None])
    for residual, down in zip(encoder.res_layers, encoder.down_sample_conv_layers, strict=True):
        x = _plain_conv(down, F.leaky_relu(_plain_residual(residual, x), LEAK))
    latents = _plain_conv(encoder.post_conv, F.leaky_relu(x, LEAK))
    return codec.vector_quantizer.encode(latents.transpose(1, 2))


@torch.no_grad()
def plainly_decoded(codec: NanoCodec, codes: Tensor) -> Tensor:
    """Sound (B, S) of codes (B, K, T), layer by layer in torch's own order."""
    decoder: Any = codec.audio_decoder
    x = _plain_conv(decoder.pre_conv, codec.vector_quantizer.decode(codes).transpose(1, 2))
    stages = zip(
        decoder.activations, decoder.up_sample_conv_layers, decoder.res_layers, strict=True
    )
    for activation, up, residual in stages:
        conv, x = up.conv, _plain_activation(activation, x)
        x = F.conv_transpose1d(x, conv.weight, conv.bias, up.stride, groups=conv.groups)
        x = _plain_residual(residual, x[..., : -up.stride])
    x = _plain_conv(decoder.post_conv, _plain_activation(decoder.post_activation, x))
    return x[:, 0].clamp(-1, 1)


def _plain_conv(layer: Conv, x: Tensor) -> Tensor:
    is_causal = layer.behind < layer.before
    x = F.pad(x, (layer.before, layer.behind), mode="constant" if is_causal else "replicate")
    conv = layer.conv
    return F.conv1d(x, conv.weight, conv.bias, conv.stride, dilation=conv.dilation)


def _plain_activation(layer: Any, x: Tensor) -> Tensor:
    if not isinstance(layer, HalfSnake):
        return F.leaky_relu(x, LEAK)
    alpha = layer.alpha[None, :, None]
    waves, rest = x.split([alpha.shape[1], x.shape[1] - alpha.shape[1]], dim=1)
    waves = waves + (alpha + EPSILON).reciprocal() * torch.sin(alpha * waves).pow(2)
    return torch.cat([waves, F.leaky_relu(rest, LEAK)], dim=1)


def _plain_residual(layer: ResidualLayer, x: Tensor) -> Tensor:
    blocks: Any = layer.res_blocks
    found = []
    for block in blocks:
        y = x
        for unit in block.res_blocks:
            inner = _plain_conv(unit.input_conv, _plain_activation(unit.input_activation, y))
            y = y + _plain_conv(unit.skip_conv, _plain_activation(unit.skip_activation, inner))
        found.append(y)
    return sum(found[1:], found[0]) / len(found)


def _in_turns(
    task: str,
    ways: dict[str, Callable[[], Any]],
    work: KaniWork,
    meter: Meter,
    amount: float,
    unit: str,
) -> Iterator[Speed]:
    rounds = [
        [meter.measure(way).seconds for way in ways.values()]
        for _ in range(work.warmups + work.repeats)
    ]
    medians = np.median(rounds[work.warmups :], axis=0).tolist()
    for way, seconds in zip(ways, medians, strict=True):
        gain = medians[-1] / seconds if way != list(ways)[-1] else None
        yield Speed(task, way, seconds, amount / seconds, unit, gain)


def _codec(work: KaniWork) -> NanoCodec:
    torch.manual_seed(work.seed)
    config = NanoCodecConfig() if work.layers else NanoCodecConfig.tiny()
    return NanoCodec(config).requires_grad_(False).eval()


def _stage(work: KaniWork) -> KaniStage:
    """A language model with adapters."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    kinds = ["full_attention" if place in ATTENTION else "conv" for place in range(16)]
    sizes = {**LFM2, "num_hidden_layers": work.layers, "layer_types": kinds[-work.layers :]}
    torch.manual_seed(work.seed)
    config = Lfm2Config(**(sizes if work.layers else NETWORK), vocab_size=TokenSpace().vocab_size)
    model: Any = Lfm2ForCausalLM(config).requires_grad_(False)
    if work.amp == "bf16":
        model.to(torch.bfloat16)
    lora.inject(
        model,
        target_layers(model, TARGETS),
        rank=work.lora_rank,
        alpha=work.lora_rank,
        dropout=0.0,
        use_rslora=True,
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return KaniStage(model.train(), TokenSpace())


class _Letters:
    """As many ids as the released tokenizer would give, about."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [1] * add_special_tokens + [9] * (len(text) // LETTERS_PER_TOKEN + 1)


def _rows(work: KaniWork, space: TokenSpace) -> Dataset:
    """The clips in ids, with random codes: as long as they are, in speech and in text."""
    chance = np.random.default_rng(work.seed)
    rows: list[dict[str, Any]] = []
    for path, text in _clips(work):
        n_frames = max(1, round(audio.duration(path) * NanoCodecConfig().frame_rate))
        codes = chance.integers(0, space.codebook_size, (space.num_codebooks, n_frames))
        found = training_sequence(text, "a", interleave(codes, space).ids, _Letters(), space)
        rows.append({"id": path.stem, "ids": found.ids, "audio_start": found.audio_start})
    return Dataset.from_list(rows)


def _clips(work: KaniWork) -> list[tuple[Path, str]]:
    """Recordings with their texts."""
    texts, _ = match_transcripts(read_transcripts(work.input), audio.find_audio(work.input))
    if not texts:
        raise UserError("no recordings with texts here", where=work.input, fix="--input FOLDER")
    return sorted(texts.items())[: work.clips or None]
