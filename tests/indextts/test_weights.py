"""Checkpoints must be read exactly or refused with a reason."""

import collections
import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from indextts.checkpoint import CheckpointFolder
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.config import CodecConfig, S2MelConfig
from indextts.tensors import build
from indextts.weights import (
    detect_version,
    fingerprint,
    gpt_state,
    load_bigvgan,
    load_campplus,
    load_codec,
    load_gpt,
    load_matrices,
    load_s2mel,
    read_tensors,
    save_gpt,
)
from tests.indextts import gpt_golden
from tests.indextts.acoustic_golden import folded, official_keys
from ttscommon.errors import UserError
from ttscommon.files import write_json

TINY = GptConfig.tiny()
MAPS = Path("/proc/self/maps")


@pytest.fixture(scope="module")
def gpt():
    return UnifiedVoice(TINY).eval()


@pytest.fixture
def state(gpt):
    """What a checkpoint of it holds; a test may change it."""
    return {key: value.contiguous() for key, value in gpt.state_dict().items()}


@pytest.fixture
def folder(miniature):
    return CheckpointFolder.open(miniature)


def saved(path, data):
    path.parent.mkdir(exist_ok=True)
    torch.save(data, path)
    return path


def official(file):
    """The tensors of an official file, by name and shape only."""
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype) in official_keys(file).items()
    }


def same(one, other):
    """Both have the same tensors, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_official_language_model_is_exactly_what_is_built():
    info = json.loads((gpt_golden.FOLDER / "gpt_keys.json").read_text(encoding="utf-8"))
    tensors = {key: torch.empty(shape, device="meta") for key, shape in info["shapes"].items()}
    assert detect_version(tensors) == "2.0"
    where = gpt_golden.FOLDER
    model = build(lambda: UnifiedVoice(GptConfig()), tensors, where=where, device="meta")
    assert sum(p.numel() for p in model.parameters()) == info["parameters"]


def test_the_official_s2mel_file_is_read_without_what_training_left_in_it(tmp_path):
    net = collections.defaultdict(dict)
    for key, value in official("s2mel.pth").items():
        part, _, name = key.partition(".")
        net[part][f"module.{name}"] = value
    net["cfm"]["module.estimator.input_pos"] = torch.arange(8192)  # another number of positions
    data = {"net": {**net, "style_encoder": {"w": torch.ones(2)}}, "optimizer": {"lr": 0.1}}
    path = saved(tmp_path / "s2mel.pth", data)
    assert load_s2mel(path, S2MelConfig(), device="meta").config == S2MelConfig()


def test_a_file_without_the_acoustic_model_is_refused(folder):
    with pytest.raises(UserError, match=r"\d+ missing: cfm"):
        load_s2mel(folder.gpt, folder.config.s2mel)


def test_the_official_speaker_encoder_states_its_sizes_by_its_tensors(tmp_path):
    path = saved(tmp_path / "campplus_cn_common.bin", official("campplus_cn_common.bin"))
    model = load_campplus(path, device="meta")
    assert sum(p.numel() for p in model.parameters()) > 6_800_000
    assert model.config.embedding_size == 192


@pytest.mark.parametrize("is_folded", [False, True])
def test_the_official_vocoder_is_read_with_weight_norm_apart_or_folded(tmp_path, is_folded):
    tensors = official("bigvgan_generator.pt")
    tensors = folded(tensors) if is_folded else tensors
    assert len(tensors) == (667 if is_folded else 783)
    saved(tmp_path / "bigvgan_generator.pt", {"generator": tensors})
    flags = {"use_tanh_at_final": False, "use_bias_at_final": False}
    write_json(tmp_path / "config.json", flags)
    assert load_bigvgan(tmp_path, device="meta").config.hop_length == 256


def test_the_official_codec_is_exactly_what_is_built(folder):
    tensors = official("semantic_codec/model.safetensors")
    codec = load_codec(folder.semantic_codec, folder.config.codec)
    build(lambda: type(codec)(CodecConfig()), tensors, where=folder.root, device="meta")


@pytest.mark.parametrize("name", ["gpt.pth", "gpt.safetensors"])
def test_a_language_model_comes_back_as_it_was_written(tmp_path, gpt, name):
    save_gpt(tmp_path / name, gpt)
    read = load_gpt(tmp_path / name, TINY)
    assert same(gpt, read)
    assert not read.training
    assert not any(parameter.requires_grad for parameter in read.parameters())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_written_language_model_has_the_official_layout(tmp_path, gpt):
    save_gpt(tmp_path / "gpt.pth", gpt)
    tensors = torch.load(tmp_path / "gpt.pth", weights_only=True)["model"]
    assert tensors["gpt.h.0.mlp.c_fc.weight"].shape == (48, 192)  # [in, out], unlike nn.Linear
    assert tensors.keys() == gpt.state_dict().keys()


def test_reading_moves_nobodys_randomness(tmp_path, gpt):
    save_gpt(tmp_path / "gpt.pth", gpt)
    before = torch.random.get_rng_state()
    load_gpt(tmp_path / "gpt.pth", TINY)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_all_that_does_not_fit_is_listed(tmp_path, state):
    del state["final_norm.bias"], state["mel_head.bias"]
    state |= {"extra.weight": torch.ones(1), "emo_layer.bias": torch.ones(7)}
    path = saved(tmp_path / "gpt.pth", state)
    with pytest.raises(UserError) as caught:
        load_gpt(path, TINY)
    complaint = str(caught.value)
    assert "2 missing: final_norm.bias, mel_head.bias" in complaint
    assert "1 unexpected: extra.weight" in complaint
    assert "1 of another shape: emo_layer.bias [7] instead of [48]" in complaint
    assert str(path) in complaint
    assert "\n" not in complaint


def test_a_long_list_is_counted_and_cut(folder):
    with pytest.raises(UserError, match=r"missing: (\S+, ){2}\S+ and \d+ more"):
        load_s2mel(folder.s2mel, S2MelConfig())


@pytest.mark.parametrize("name", ["gpt.pth", "gpt.safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, gpt, name, share):
    save_gpt(tmp_path / name, gpt)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="truncated"):
        load_gpt(tmp_path / name, TINY)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_no_truncated_file_of_a_checkpoint_is_read(tmp_path, miniature, share):
    kinds = (".pth", ".pt", ".bin", ".safetensors")
    paths = [path for path in sorted(miniature.rglob("*")) if path.suffix in kinds]
    assert len(paths) == 9
    for path in paths:
        whole = path.read_bytes()
        cut = tmp_path / path.name
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UserError, match=rf"truncated.*{path.name}.*Fix: record it again"):
            read_tensors(cut, fix="record it again")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "truncated, or no file of weights"),
        (b"<html>404</html>", "truncated, or no file of weights"),
        (b"\x80\x02}q\x00.", "truncated, or no file of weights"),  # a pickle, but not torch's
        (b"PK\x03\x04" + bytes(60), "truncated, or no file of weights"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 3", "git-lfs pointer"),
    ],
)
def test_another_file_is_refused(tmp_path, content, complaint):
    (tmp_path / "gpt.pth").write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        load_gpt(tmp_path / "gpt.pth", TINY)


def test_a_file_that_could_run_code_is_not_read(tmp_path):
    path = saved(tmp_path / "gpt.pth", {"model": collections.ChainMap()})
    with pytest.raises(UserError, match="could run code"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file of weights \[.*gpt.pth\]"):
        load_gpt(tmp_path / "gpt.pth", TINY)


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (["conditioning_encoder.x", "perceiver_encoder.latents"], "1.x"),
        (["conditioning_encoder.x", "emo_conditioning_encoder.x", "speed_emb.weight"], "2.0"),
        (["emo_conditioning_encoder.x", "spk_emb_proj.weight"], "2.5"),
    ],
)
def test_the_version_is_told_by_the_tensors(tmp_path, names, version):
    names = [*names, "gpt.h.0.ln_1.weight", "text_head.weight", "mel_head.weight"]
    assert detect_version(names) == version
    path = saved(tmp_path / "gpt.pth", {"model": {name: torch.ones(1) for name in names}})
    complaint = "tensors don't fit" if version == "2.0" else f"this is IndexTTS {version}, and only"
    with pytest.raises(UserError, match=complaint):
        load_gpt(path, TINY)


def test_other_files_have_no_version(folder):
    assert detect_version(read_tensors(folder.semantic_codec)) is None
    with pytest.raises(UserError, match="isn't an IndexTTS language model"):
        load_gpt(folder.semantic_codec, TINY)
    with pytest.raises(UserError, match="isn't a CAM"):
        load_campplus(folder.semantic_codec)


def test_what_is_known_to_be_harmless_is_passed_over(tmp_path, gpt, state):
    extra = {
        "conditioning_encoder.embed.pos_enc.pe": torch.ones(1, 50, 24),
        "emo_conditioning_encoder.embed.pos_enc.pe": torch.ones(1, 50, 16),
        "inference_model.gpt.ln_f.weight": torch.ones(48),
        "gpt.wte.weight": torch.ones(42, 48),
        "gpt.h.0.attn.bias": torch.ones(1, 1, 9, 9),
        "gpt.h.1.attn.masked_bias": torch.ones(()),
    }
    assert same(gpt, load_gpt(saved(tmp_path / "gpt.pth", {**state, **extra}), TINY))


@pytest.mark.parametrize("prefix", ["module.", "base_model.model."])
def test_names_of_fine_tuners_are_understood(tmp_path, gpt, state, prefix, caplog):
    renamed = {
        prefix + key.replace(".c_attn.", ".c_attn.base_layer."): value
        for key, value in state.items()
    }
    renamed[prefix + "gpt.h.0.attn.c_attn.lora_A.default.weight"] = torch.ones(2, 48)
    with caplog.at_level(logging.WARNING):
        read = load_gpt(saved(tmp_path / "gpt.pth", {"model": renamed}), TINY)
    assert same(gpt, read)
    assert "1 tensors of an adapter" in caplog.text


def test_a_text_table_of_a_fine_tuners_tokenizer_is_taken_as_it_is(tmp_path, state):
    for key in ("text_embedding.weight", "text_head.weight", "text_head.bias"):
        state[key] = state[key][:20].clone()
    read = load_gpt(saved(tmp_path / "gpt.pth", state), TINY)
    assert read.config.number_text_tokens == 19
    state["text_head.bias"] = state["text_head.bias"][:19]
    with pytest.raises(UserError, match="of another shape"):
        load_gpt(saved(tmp_path / "gpt.pth", state), TINY)


def test_an_absent_speed_table_is_zero(tmp_path, state):
    del state["speed_emb.weight"]
    read = load_gpt(saved(tmp_path / "gpt.pth", state), TINY)
    assert not read.speed_emb.weight.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_halves_every_number_and_keeps_the_files_fingerprint(tmp_path, gpt, dtype):
    save_gpt(tmp_path / "gpt.pth", gpt)
    read = load_gpt(tmp_path / "gpt.pth", TINY, dtype=dtype)
    for name, parameter in read.named_parameters():
        assert torch.equal(parameter, gpt.get_parameter(name).to(dtype)), name
    assert fingerprint(read) == fingerprint(gpt)


def test_a_file_in_half_precision_is_read_as_float32(tmp_path, state):
    halves = {key: value.half() for key, value in state.items()}
    read = load_gpt(saved(tmp_path / "gpt.pth", halves), TINY)
    assert {parameter.dtype for parameter in read.parameters()} == {torch.float32}


def test_a_change_of_any_one_tensor_is_another_fingerprint(tmp_path, gpt):
    save_gpt(tmp_path / "gpt.pth", gpt)
    read = load_gpt(tmp_path / "gpt.pth", TINY)
    mark = fingerprint(gpt)
    assert fingerprint(read) == read.file_fingerprint == mark
    for name, value in read.state_dict().items():
        number = value[(-1,) * value.dim()]
        kept = number.item()
        number.add_(0.001)
        assert fingerprint(read) != mark, name
        number.fill_(kept)
    assert fingerprint(read) == mark


def test_rounded_weights_have_no_fingerprint_of_their_own():
    with pytest.raises(ValueError, match="rounded weights"):
        fingerprint(UnifiedVoice(TINY).bfloat16())


@pytest.mark.skipif(not MAPS.exists(), reason="this system doesn't say what is mapped")
@pytest.mark.parametrize("name", ["gpt.pth", "gpt.safetensors"])
def test_numbers_stay_in_the_file_until_they_are_used(tmp_path, gpt, name):
    save_gpt(tmp_path / name, gpt)
    read = load_gpt(tmp_path / name, TINY)
    lines = [line.split() for line in MAPS.read_text().split("\n") if str(tmp_path / name) in line]
    mapped = [range(*(int(end, 16) for end in line[0].split("-"))) for line in lines]
    assert any(read.mel_head.weight.data_ptr() in addresses for addresses in mapped)


def test_files_from_before_torch_could_map_them_are_read(tmp_path, gpt, state):
    torch.save(state, tmp_path / "gpt.pth", _use_new_zipfile_serialization=False)
    assert same(gpt, load_gpt(tmp_path / "gpt.pth", TINY))


def test_a_vocoder_sounds_the_same_with_weight_norm_apart_or_folded(tmp_path, folder):
    apart = load_bigvgan(folder.bigvgan)
    state = read_tensors(folder.bigvgan / "bigvgan_generator.pt")
    state = {key.removeprefix("generator."): value for key, value in state.items()}
    saved(tmp_path / "bigvgan_generator.pt", {"generator": folded(state)})
    (tmp_path / "config.json").write_bytes((folder.bigvgan / "config.json").read_bytes())
    mel = torch.randn(1, 12, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(apart(mel), load_bigvgan(tmp_path)(mel))


def test_the_emotions_matrices_have_a_row_for_each_example(tmp_path, folder):
    speakers, emotions = load_matrices(folder)
    assert speakers.shape == (73, 10)
    assert emotions.shape == (73, 48)
    wrapped = speakers[:, None]
    torch.save(wrapped, tmp_path / "feat1.pt")
    changed = CheckpointFolder(**{**vars(folder), "spk_matrix": tmp_path / "feat1.pt"})
    assert torch.equal(load_matrices(changed)[0], speakers)
    torch.save(torch.ones(72, 48), tmp_path / "feat2.pt")
    changed = CheckpointFolder(**{**vars(folder), "emo_matrix": tmp_path / "feat2.pt"})
    with pytest.raises(UserError, match=r"expected one matrix of \[73, 48\], found \[\[72, 48\]\]"):
        load_matrices(changed)


def test_the_state_of_a_bare_or_wrapped_dictionary_is_the_same(state):
    wrapped = {f"model.{key}": value for key, value in state.items()}
    assert gpt_state(wrapped).keys() == gpt_state(state).keys() == state.keys()


def test_safetensors_are_recognised_by_content_not_by_name(tmp_path, state):
    save_file(state, tmp_path / "model.bin")
    assert read_tensors(tmp_path / "model.bin").keys() == load_file(tmp_path / "model.bin").keys()
