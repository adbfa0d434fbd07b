"""A model and a codec of random weights in the released layout, for trying things out in seconds.

They speak noise, but every step is the real one: the same files, classes, ids and frame rate.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from kani.codec import NanoCodec, NanoCodecConfig
from kani.codec_weights import SETTINGS_FILE, unfold
from kani.codec_weights import WEIGHTS_FILE as CODEC_WEIGHTS
from kani.tokens import TokenSpace
from kani.weights import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from ttscommon.errors import UserError
from ttscommon.files import atomic, atomic_folder, read_json, write_json
from ttscommon.seeds import seed_for

MODEL, CODEC = "model", "nanocodec.nemo"
# In the places that they have in the released tokenizer; where nothing is needed, a filler.
MARKS = {0: "<|pad|>", 1: "<|startoftext|>", 2: "<|endoftext|>", 6: "<|im_start|>", 7: "<|im_end|>"}
N_MARKS = 8
NETWORK: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "block_ff_dim": 96,
    "block_multiple_of": 16,
    "conv_L_cache": 3,
    "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    "norm_eps": 1e-5,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "eos_token_id": 7,
    "tie_word_embeddings": True,
}
LIVELINESS = 12.0  # latents of a random encoder hardly differ from each other


def write_miniature(folder: Path, *, seed: int = 0) -> tuple[Path, Path]:
    """Write `model/` and `nanocodec.nemo`, 23 MB; the same numbers for the same seed.

    Returns:
        both

    Raises:
        UserError: if one of them is there and isn't a miniature
    """
    _require_miniature(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("miniature", seed))
        with atomic_folder(folder / MODEL) as draft:
            _write_model(draft)
        with atomic(folder / CODEC) as draft:
            _write_codec(draft)
    return folder / MODEL, folder / CODEC


def _require_miniature(folder: Path) -> None:
    """Refuse to replace what cost something."""
    existing = [path for path in (folder / MODEL, folder / CODEC) if path.exists()]
    config = folder / MODEL / CONFIG_FILE
    if existing and not (config.is_file() and read_json(config).get("is_miniature")):
        raise UserError("something else than a miniature is here", where=existing[0])


def byte_tokenizer() -> Tokenizer:
    """One token for each byte, and a beginning in front of each text."""
    marks = [MARKS.get(place, f"<|reserved_{place}|>") for place in range(N_MARKS)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*marks, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    begin = MARKS[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, 1)]
    )
    return tokenizer


def _write_model(folder: Path) -> None:
    from transformers import Lfm2Config, Lfm2ForCausalLM

    config = Lfm2Config(**NETWORK, vocab_size=TokenSpace().vocab_size)
    state = Lfm2ForCausalLM(config).state_dict()
    state.pop("lm_head.weight", None)  # the embedding's
    byte_tokenizer().save(str(folder / TOKENIZER_FILE))
    settings = {"bos_token": MARKS[1], "eos_token": MARKS[7], "pad_token": MARKS[0]}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(folder / "tokenizer_config.json", settings)
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    described = {**config.to_dict(), "architectures": ["Lfm2ForCausalLM"], "is_miniature": True}
    write_json(folder / CONFIG_FILE, described)


def _write_codec(path: Path) -> None:
    config = NanoCodecConfig.tiny()
    codec = NanoCodec(config).requires_grad_(False)
    codec.audio_encoder.post_conv.conv.weight.mul_(LIVELINESS)
    settings = {
        "sample_rate": config.sample_rate,
        "samples_per_frame": config.samples_per_frame,
        "audio_encoder": {
            "_target_": "nemo.collections.tts.modules.audio_codec_modules.HiFiGANEncoder",
            "down_sample_rates": list(config.down_rates),
            "base_channels": config.encoder_channels,
        },
        "audio_decoder": {
            "_target_": "nemo.collections.tts.modules.audio_codec_modules.CausalHiFiGANDecoder",
            "up_sample_rates": list(config.up_rates),
            "base_channels": config.decoder_channels,
        },
        "vector_quantizer": {
            "num_groups": config.n_codebooks,
            "num_levels_per_group": list(config.levels),
        },
    }
    weights = io.BytesIO()
    torch.save(unfold(codec.state_dict()), weights)
    with tarfile.open(path, "w") as archive:
        for name, data in (
            (SETTINGS_FILE, yaml.safe_dump(settings).encode()),
            (CODEC_WEIGHTS, weights.getvalue()),
        ):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
