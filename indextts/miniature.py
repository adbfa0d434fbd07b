"""A whole IndexTTS2 checkpoint in miniature: the official files and names, random weights.

It speaks noise, of a length that fits the text. Everything that reads a checkpoint can be tried
with it, on any machine and in seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from indextts.checkpoint import AUXILIARIES, CONFIG_FILE, FILES, GPT_LAYER_INNER, TOKENIZER
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.miniature_tokenizer import train_tokenizer
from indextts.s2mel.campplus import Campplus
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.config import CampplusConfig, CodecConfig, S2MelConfig
from indextts.s2mel.model import S2Mel
from indextts.vocoder.bigvgan import BigVGAN
from indextts.vocoder.config import BigVGANConfig
from indextts.weights import gpt_state_for_saving
from ttscommon.config import read_mapping, to_dict
from ttscommon.errors import UserError
from ttscommon.files import atomic_folder, write_json
from ttscommon.seeds import seed_for

N_CODES = 512
EMO_NUM = (3, 17, 2, 8, 4, 5, 10, 24)  # as in the official file
N_W2V_LAYERS = 18  # one more than is read, as the official one has more
# What a checkpoint folder may hold, and go with it when it is replaced.
OWN_FOLDERS = {Path(auxiliary.place).parts[0] for auxiliary in AUXILIARIES.values()}
OWN_FOLDERS |= {FILES["qwen_emo_path"].rstrip("/"), "hf_cache", ".cache"}
README = """Random weights in the layout of an IndexTTS2 2.0 checkpoint, made by VoxTune for trying
programs out. They were trained on nothing: all that they say is noise.
"""

# How the language model comes to its end. Two features are kept free of everything else. COUNT
# says "I am text" or, less loudly, "I am a code"; in the first layer a head that
# attends to all alike averages it and writes the result to BALANCE, which the stop token reads: the
# more codes for the text, the likelier the end.
COUNT, BALANCE = -2, -1
CODE_STRENGTH = -0.6
GAIN, EAGERNESS, PATIENCE = 4.0, 10.0, 3.0
EMBEDDING_SCALE = 0.5
LOUDNESS = 0.1  # standard deviation of the sound
STOPPED = -30.0  # logit of the start token, which is no code


def write_miniature(folder: Path, seed: int = 0, *, overwrite: bool = False) -> None:
    """Write the folder; the same weights for the same seed.

    Raises:
        UserError: if there is something already and `overwrite` isn't given, or if what is there
            isn't a checkpoint
    """
    _require_free(folder, overwrite=overwrite)
    tokenizer, n_pieces = train_tokenizer()
    gpt, s2mel, codec, bigvgan = _sizes(n_pieces)
    with atomic_folder(folder) as draft, torch.random.fork_rng(devices=[]), torch.no_grad():
        (draft / TOKENIZER).write_bytes(tokenizer)
        (draft / "README.txt").write_text(README, encoding="utf-8")
        config = _official_config(gpt, s2mel, codec)
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (draft / CONFIG_FILE).write_text(text, encoding="utf-8")
        torch.manual_seed(seed_for(seed, "miniature"))
        _write_gpt(draft, gpt)
        _write_s2mel(draft, s2mel)
        _write_codec(draft, codec)
        _write_bigvgan(draft, bigvgan)
        _write_campplus(draft)
        _write_w2v_bert(draft, gpt.cond_input_dim)
        _write_matrices(draft, s2mel.dit.style_dim, gpt.model_dim)


def _require_free(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    elsewhere = "name a new folder: --output FOLDER"
    config = folder / CONFIG_FILE
    if not config.is_file():
        raise UserError("here is something else than a checkpoint", where=folder, fix=elsewhere)
    if not overwrite:
        is_miniature = read_mapping(config).get("miniature", False)
        what = f"a {'miniature' if is_miniature else 'real'} checkpoint is here already"
        raise UserError(what, where=folder, fix=f"{elsewhere}, or replace it: --overwrite")
    folders = {path.name for path in folder.iterdir() if path.is_dir()}
    if others := sorted(folders - OWN_FOLDERS):
        what = f"it would be replaced with all that is in it: {', '.join(others)}"
        raise UserError(what, where=folder, fix=elsewhere)


def _sizes(n_pieces: int) -> tuple[GptConfig, S2MelConfig, CodecConfig, BigVGANConfig]:
    gpt = dataclasses.replace(
        GptConfig.tiny(),
        max_mel_tokens=1815,
        max_text_tokens=600,
        number_text_tokens=n_pieces,
        number_mel_codes=N_CODES + 2,
        start_mel_token=N_CODES,
        stop_mel_token=N_CODES + 1,
    )
    codec = dataclasses.replace(CodecConfig.tiny(), codebook_size=N_CODES)
    dims = (gpt.model_dim, *GPT_LAYER_INNER, codec.hidden_size)
    s2mel = dataclasses.replace(S2MelConfig.tiny(), gpt_layer_dims=dims)
    bigvgan = BigVGANConfig(
        num_mels=s2mel.mel.n_mels,
        upsample_rates=(8, 8, 2, 2),
        upsample_kernel_sizes=(16, 16, 4, 4),
        upsample_initial_channel=32,
        resblock_kernel_sizes=(3, 7),
        resblock_dilation_sizes=((1, 3, 5), (1, 3, 5)),
    )
    return gpt, s2mel, codec, bigvgan


def _write_gpt(folder: Path, config: GptConfig) -> None:
    gpt = UnifiedVoice(config)
    for module in gpt.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_SCALE)
    _teach_to_stop(gpt)
    torch.save({"model": gpt_state_for_saving(gpt)}, folder / FILES["gpt_checkpoint"])


def _teach_to_stop(gpt: UnifiedVoice) -> None:
    """Wire up what is said at COUNT and BALANCE."""
    kept_free = [COUNT, BALANCE]
    for table in (gpt.text_pos_embedding.emb, gpt.mel_pos_embedding.emb):
        table.weight[:, kept_free] = 0
    gpt.perceiver_encoder.norm.gamma[kept_free] = 0
    blocks: Any = gpt.gpt.h
    writers = [layer for block in blocks for layer in (block.attn.c_proj, block.mlp.c_proj)]
    for layer in [gpt.emo_layer, *writers]:
        layer.weight[kept_free] = 0
        layer.bias[kept_free] = 0
    gpt.speed_emb.weight.zero_()
    gpt.speed_emb.weight[:, COUNT] = 1  # with nothing beside it, it counts as several pieces
    gpt.text_embedding.weight[:, COUNT], gpt.text_embedding.weight[:, BALANCE] = 1, 0
    gpt.mel_embedding.weight[:, COUNT], gpt.mel_embedding.weight[:, BALANCE] = CODE_STRENGTH, 0

    width, head_dim = gpt.config.model_dim, gpt.config.model_dim // gpt.config.heads
    attention = blocks[0].attn
    for rows in (slice(0, head_dim), slice(width, width + head_dim)):  # queries and keys of head 0
        attention.c_attn.weight[rows] = 0
        attention.c_attn.bias[rows] = 0
    attention.c_attn.weight[2 * width] = 0
    attention.c_attn.weight[2 * width, COUNT] = 1
    attention.c_attn.bias[2 * width] = 0
    attention.c_proj.weight[BALANCE, 0] = GAIN

    head, stop = gpt.mel_head, gpt.config.stop_mel_token
    head.weight[:, kept_free] = 0
    head.weight[stop] = 0
    head.weight[stop, BALANCE] = -EAGERNESS
    head.bias[stop] = -PATIENCE
    head.bias[gpt.config.start_mel_token] = STOPPED


def _write_s2mel(folder: Path, config: S2MelConfig) -> None:
    state = S2Mel(config).state_dict()
    net: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, name = key.partition(".")
        net.setdefault(part, {})[name] = value
    torch.save({"net": net}, folder / FILES["s2mel_checkpoint"])


def _write_codec(folder: Path, config: CodecConfig) -> None:
    _save_safetensors(folder / AUXILIARIES["semantic_codec"].place, SemanticCodec(config))


def _write_bigvgan(folder: Path, config: BigVGANConfig) -> None:
    bigvgan = BigVGAN(config)
    last = bigvgan.conv_post.weight  # (1, C, K)
    last -= last.mean(dim=-1, keepdim=True)  # or the sound would be mostly a constant
    last *= LOUDNESS / bigvgan(torch.randn(1, config.num_mels, 64)).std()
    place = folder / AUXILIARIES["bigvgan"].place
    official = {"resblock": "1", "activation": "snakebeta", "sampling_rate": 22_050}
    write_json(place / "config.json", {**to_dict(config), **official})
    torch.save({"generator": bigvgan.state_dict()}, place / "bigvgan_generator.pt")


def _write_campplus(folder: Path) -> None:
    path = folder / AUXILIARIES["campplus"].place
    path.parent.mkdir()
    campplus = Campplus(CampplusConfig.tiny())
    for module in campplus.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # a plain mean: without statistics every voice would be 0
    campplus.train()(torch.randn(16, 120, campplus.config.n_mels))
    torch.save(campplus.state_dict(), path)


def _write_w2v_bert(folder: Path, width: int) -> None:
    from transformers import (  # takes a moment to import
        SeamlessM4TFeatureExtractor,
        Wav2Vec2BertConfig,
        Wav2Vec2BertModel,
    )

    config = Wav2Vec2BertConfig(
        hidden_size=width,
        num_hidden_layers=N_W2V_LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        conv_depthwise_kernel_size=7,
    )
    place = folder / AUXILIARIES["w2v_bert"].place
    model, extractor = (
        Wav2Vec2BertModel(config).eval(),
        SeamlessM4TFeatureExtractor(padding_value=1),
    )
    _save_safetensors(place / "model.safetensors", model)
    write_json(
        place / "config.json", {**config.to_diff_dict(), "architectures": ["Wav2Vec2BertModel"]}
    )
    extractor.save_pretrained(place)

    noise = torch.randn(3 * extractor.sampling_rate).numpy()
    inputs = extractor(noise, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    hidden = model(**inputs, output_hidden_states=True).hidden_states[N_W2V_LAYERS - 1][0]
    statistics = {"mean": hidden.mean(0), "var": hidden.var(0)}
    torch.save(statistics, folder / FILES["w2v_stat"])


def _write_matrices(folder: Path, style_dim: int, model_dim: int) -> None:
    n_rows = sum(EMO_NUM)
    torch.save(torch.randn(n_rows, style_dim), folder / FILES["spk_matrix"])
    emotions = torch.randn(n_rows, model_dim)
    emotions[:, [COUNT, BALANCE]] = 0
    torch.save(emotions, folder / FILES["emo_matrix"])


def _save_safetensors(path: Path, module: nn.Module) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in module.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def _official_config(gpt: GptConfig, s2mel: S2MelConfig, codec: CodecConfig) -> dict[str, Any]:
    """All sections of the official config.yaml, and a mark that this isn't it."""
    sizes = to_dict(gpt)
    del sizes["dropout"]
    return {
        "miniature": True,
        "dataset": {"bpe_model": TOKENIZER, "sample_rate": 24_000},
        "gpt": sizes,
        "semantic_codec": to_dict(codec),
        "s2mel": _s2mel_section(s2mel),
        **FILES,
        "emo_num": list(EMO_NUM),
        "vocoder": {"type": "bigvgan", "name": AUXILIARIES["bigvgan"].repository},
        "version": 2.0,
    }


def _s2mel_section(config: S2MelConfig) -> Mapping[str, Any]:
    mel, dit, regulator = config.mel, config.dit, config.length_regulator
    return {
        "preprocess_params": {
            "sr": mel.sample_rate,
            "spect_params": {
                "n_fft": mel.n_fft,
                "win_length": mel.n_fft,
                "hop_length": mel.hop_length,
                "n_mels": mel.n_mels,
                "fmin": 0,
                "fmax": "None",
            },
        },
        "dit_type": "DiT",
        "reg_loss_type": "l1",
        "style_encoder": {"dim": dit.style_dim},
        "length_regulator": {
            "channels": regulator.channels,
            "is_discrete": False,
            "in_channels": regulator.in_channels,
            "content_codebook_size": regulator.content_codebook_size,
            "sampling_ratios": [1, 1, 1, 1],
            "vector_quantize": False,
            "f0_condition": False,
        },
        "DiT": {
            "hidden_dim": dit.hidden_dim,
            "num_heads": dit.n_heads,
            "depth": dit.depth,
            "in_channels": dit.n_mels,
            "style_condition": True,
            "final_layer_type": "wavenet",
            "content_dim": dit.content_dim,
            "content_codebook_size": dit.content_codebook_size,
            "f0_condition": False,
            "is_causal": False,
            "long_skip_connection": True,
            "zero_prompt_speech_token": False,
            "time_as_token": False,
            "style_as_token": False,
            "uvit_skip_connection": True,
            "add_resblock_in_transformer": False,
        },
        "wavenet": {
            "hidden_dim": dit.hidden_dim,
            "num_layers": dit.n_wavenet_layers,
            "kernel_size": dit.wavenet_kernel_size,
            "dilation_rate": dit.wavenet_dilation_rate,
            "p_dropout": dit.wavenet_dropout,
            "style_condition": True,
        },
    }
