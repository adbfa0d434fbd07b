"""A pattern goes in as in the original, begins without effect, and belongs to one base."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from indextts import weights
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.pattern_embeddings import (
    INJECTION_MODES,
    PatternEmbedding,
    PatternOrigin,
    pattern_effect,
    require_fit,
)
from tests.indextts.gpt_golden import read
from ttscommon.errors import UserError

WIDTH = GptConfig.tiny().model_dim


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    return UnifiedVoice(GptConfig.tiny()).eval().requires_grad_(False)


def pattern(mode="add", initialization="reference", **options):
    torch.manual_seed(1)
    return PatternEmbedding(WIDTH, 3, injection_mode=mode, initialization=initialization, **options)


def speaker(n: int = 6):
    return torch.randn(2, n, WIDTH, generator=torch.Generator().manual_seed(2))


def of_the_original(mode):
    info, tensors = read("pattern_reference")
    sizes = info["model_dim"], info["num_pattern_tokens"]
    loaded = PatternEmbedding(*sizes, injection_mode=mode, initialization="reference")
    state = {k.removeprefix("sd."): v for k, v in tensors.items() if k.startswith("sd.")}
    loaded.load_state_dict(state)
    return loaded, tensors


@pytest.mark.parametrize("mode", INJECTION_MODES)
def test_tokens_and_injection_are_the_originals(mode):
    loaded, tensors = of_the_original(mode)
    torch.testing.assert_close(loaded(2), tensors["out.tokens"], atol=1e-6, rtol=0)
    conditioning = tensors["in.conditioning"]
    found = loaded.get_injection_embedding(conditioning, injection_mode=mode)
    torch.testing.assert_close(found, tensors[f"out.inject.{mode}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", INJECTION_MODES)
def test_scale_zero_is_the_base_bit_for_bit(mode):
    assert torch.equal(pattern(mode).get_injection_embedding(speaker(), scale=0), speaker())


@pytest.mark.parametrize("mode", ["add", "replace_first"])
def test_it_begins_without_effect(mode, gpt):
    fresh = pattern(mode, "neutral")
    assert torch.equal(fresh.get_injection_embedding(speaker()), speaker())
    assert pattern_effect(gpt, fresh) == 0
    assert pattern_effect(gpt, pattern(mode)) > 0


def test_before_the_latents_it_begins_with_zeros_which_are_read():
    told = pattern("prepend", "neutral").get_injection_embedding(speaker())
    assert told.shape == (2, 9, WIDTH)
    assert not told[:, :3].any()
    assert torch.equal(told[:, 3:], speaker())


@pytest.mark.parametrize("initialization", ["neutral", "reference"])
@pytest.mark.parametrize("mode", INJECTION_MODES)
def test_every_tensor_gets_a_gradient_within_two_steps(mode, initialization):
    fresh = pattern(mode, initialization)
    optimizer = torch.optim.SGD(fresh.parameters(), 0.1)
    seen = set()
    for _ in range(2):
        optimizer.zero_grad()
        fresh.get_injection_embedding(speaker()).sin().sum().backward()
        seen |= {
            name for name, p in fresh.named_parameters() if p.grad is not None and p.grad.any()
        }
        optimizer.step()
    assert seen == {name for name, _ in fresh.named_parameters()}


def test_half_the_scale_goes_half_the_way_where_tokens_replace():
    full = pattern("replace_first")
    half = full.get_injection_embedding(speaker(), scale=0.5)
    expected = (speaker()[:, :3] + full(2)) / 2
    torch.testing.assert_close(half[:, :3], expected)


def test_more_tokens_than_latents_are_cut_where_they_are_added():
    told = pattern("add").get_injection_embedding(speaker(2))
    torch.testing.assert_close(told, speaker(2) + pattern("add")(2)[:, :2])


def test_shuffled_tokens_are_as_long_and_others():
    one = pattern("add")
    moved = one.shuffled(speaker())[:, :3] - speaker()[:, :3]
    torch.testing.assert_close(moved.norm(dim=-1), one(2).norm(dim=-1))
    assert not torch.allclose(moved, one(2), atol=0.1)
    assert torch.equal(one.shuffled(speaker()), one.shuffled(speaker()))


def test_the_length_of_tokens_is_told_in_lengths_of_latents():
    one = pattern("add")
    latents = 2 * one(2)
    assert one.norm_ratio(latents) == pytest.approx(0.5)


@pytest.mark.parametrize("mode", INJECTION_MODES)
def test_a_saved_pattern_comes_back_with_all_that_is_known_of_it(mode, tmp_path):
    origin = PatternOrigin(base="b" * 64, tokenizer="t" * 64, silence_codes=(52, 7),
                           rates={"pauses_per_minute": 12.5}, training={"step": 3})  # fmt: skip
    torch.manual_seed(3)
    made = PatternEmbedding(WIDTH, 3, 20, injection_mode=mode, origin=origin)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    made.save(tmp_path / "pattern_embedding.pt", {"note": "mine"})
    found = PatternEmbedding.load(tmp_path / "pattern_embedding.pt")
    assert found.origin == origin
    assert (found.injection_mode, found.hidden_dim) == (mode, 20)
    told = found.get_injection_embedding(speaker())
    assert torch.equal(told, made.get_injection_embedding(speaker()))
    whole = torch.load(tmp_path / "pattern_embedding.pt", weights_only=True)
    assert whole["metadata"]["note"] == "mine"


def test_files_of_the_public_program_are_read(tmp_path):
    loaded, tensors = of_the_original("add")
    config = {"model_dim": 24, "num_pattern_tokens": 3}
    path = tmp_path / "pattern_embedding.pt"
    torch.save({"state_dict": loaded.state_dict(), "config": config, "metadata": {}}, path)
    with pytest.raises(UserError, match=r"doesn't say how it goes in.*--injection-mode"):
        PatternEmbedding.load(path)
    found = PatternEmbedding.load(path, injection_mode="add")
    torch.testing.assert_close(found(2), tensors["out.tokens"], atol=1e-6, rtol=0)


def test_another_mode_is_refused(tmp_path):
    one = pattern("add")
    with pytest.raises(UserError, match="trained with injection mode 'add', not 'prepend'"):
        one.get_injection_embedding(speaker(), "prepend")
    one.save(tmp_path / "p.pt")
    with pytest.raises(UserError, match=r"not 'prepend'.*p\.pt"):
        PatternEmbedding.load(tmp_path / "p.pt", injection_mode="prepend")


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(UserError, match="pattern_scale is"):
        pattern().get_injection_embedding(speaker(), scale=scale)


def test_a_file_with_nan_is_refused(tmp_path):
    one = pattern()
    one.pattern_scale.data.fill_(float("nan"))
    one.save(tmp_path / "p.pt")
    with pytest.raises(UserError, match="pattern_scale holds NaN"):
        PatternEmbedding.load(tmp_path / "p.pt")


def test_a_pattern_of_another_base_is_refused(gpt):
    mine = pattern(origin=PatternOrigin(base=weights.fingerprint(gpt)))
    require_fit(mine, gpt)
    other = pattern(origin=PatternOrigin(base="0" * 64))
    with pytest.raises(UserError, match="trained on another base"):
        require_fit(other, gpt)
    with pytest.raises(UserError, match=f"24 wide, this model is {WIDTH} wide"):
        require_fit(PatternEmbedding(24, 3), gpt)


def test_a_pattern_for_another_version_is_refused(tmp_path):
    one = pattern(origin=dataclasses.replace(PatternOrigin(), model_version="2.5"))
    one.save(tmp_path / "p.pt")
    with pytest.raises(UserError, match=r"for IndexTTS 2\.5, this is 2\.0"):
        PatternEmbedding.load(tmp_path / "p.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no pattern embedding here"),
        (b"nonsense", "truncated, or no file of weights"),
        ({"state_dict": {"a": torch.zeros(1)}}, "it lacks pattern_proj"),
    ],
)
def test_what_is_no_pattern_is_refused(content, message, tmp_path):
    path = tmp_path / "p.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        PatternEmbedding.load(path)
