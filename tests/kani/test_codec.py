"""The codec computes what NeMo's does, whole or in pieces, alone or in a batch."""

from __future__ import annotations

import pytest
import torch

from kani import codec_layers
from kani.codec import NanoCodec, NanoCodecConfig
from kani.codec_layers import CausalUpsample, Edges, FiniteScalars, HalfSnake, piecewise
from kani.codec_weights import fold
from tests.kani.golden import described, tensors
from ttscommon.errors import UserError

HOP = 1764


@pytest.fixture(scope="module")
def codec() -> NanoCodec:
    return golden_codec()


def golden_codec(frames_at_once: int = 256) -> NanoCodec:
    codec = NanoCodec(NanoCodecConfig.tiny(), frames_at_once)
    codec.load_state_dict(fold(tensors("codec_tiny_weights")))
    return codec.requires_grad_(False).eval()


def sound(n_rows: int, n_frames: int) -> torch.Tensor:
    return 0.1 * torch.randn(n_rows, n_frames * HOP, generator=torch.Generator().manual_seed(3))


def test_encoding_gives_nemos_latents_and_codes(codec):
    io = tensors("codec_tiny_io")
    tokens, lengths = codec.encode(io["enc_audio"])
    assert torch.equal(tokens, io["enc_tokens"])
    assert tokens.dtype == torch.int32
    assert lengths.tolist() == io["enc_len"].tolist()
    filled = torch.nn.functional.pad(io["enc_audio"], (0, 6 * HOP - io["enc_audio"].shape[1]))
    torch.testing.assert_close(
        codec.latents(filled).transpose(1, 2), io["enc_latent"], atol=1e-5, rtol=0
    )


def test_a_batch_is_encoded_as_nemo_does_it(codec):
    io = tensors("codec_tiny_io")
    tokens, lengths = codec.encode(io["batch_audio"], io["batch_audio_len"], as_nemo=True)
    assert torch.equal(tokens, io["batch_tokens"])
    assert lengths.tolist() == io["batch_len"].tolist()


def test_a_row_has_the_same_codes_alone_as_in_a_batch(codec):
    io = tensors("codec_tiny_io")
    together, lengths = codec.encode(io["batch_audio"], io["batch_audio_len"])
    for row, (n_samples, n_frames) in enumerate(zip(io["batch_audio_len"], lengths, strict=True)):
        alone, _ = codec.encode(io["batch_audio"][row : row + 1, :n_samples])
        assert torch.equal(together[row, :, :n_frames], alone[0])
        assert not together[row, :, n_frames:].any()


def test_decoding_gives_nemos_sound(codec):
    io = tensors("codec_tiny_io")
    audio = codec.decode(io["dec_tokens"])
    assert audio.shape[1] == io["dec_audio_len"]
    torch.testing.assert_close(audio, io["dec_audio"], atol=1e-5, rtol=0)
    latents = codec.vector_quantizer.decode(io["dec_tokens"]).transpose(1, 2)
    torch.testing.assert_close(latents, io["dec_latent"], atol=1e-5, rtol=0)


def test_long_sounds_in_pieces_are_as_at_once():
    whole, pieces = golden_codec(10_000), golden_codec(17)
    audio, lengths = sound(2, 44), torch.tensor([44 * HOP, 24 * HOP + 5])
    tokens, n_frames = whole.encode(audio, lengths)
    assert n_frames.tolist() == [44, 25]
    assert torch.equal(pieces.encode(audio, lengths)[0], tokens)
    torch.testing.assert_close(pieces.decode(tokens), whole.decode(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("as_nemo", [False, True])
def test_layers_in_pieces_are_as_at_once(codec, monkeypatch, as_nemo):
    rows, lengths = sound(3, 9), torch.tensor([9, 4, 1]) * HOP
    codes = torch.randint(0, 4032, (2, 4, 9), generator=torch.Generator().manual_seed(4))
    whole = codec.encode(rows, lengths, as_nemo=as_nemo)[0], codec.decode(codes)
    monkeypatch.setattr(codec_layers, "PIECE", 2**10)
    assert torch.equal(codec.encode(rows, lengths, as_nemo=as_nemo)[0], whole[0])
    assert torch.allclose(codec.decode(codes), whole[1], atol=1e-6)


def test_pieces_are_no_larger_than_asked_for(monkeypatch):
    monkeypatch.setattr(codec_layers, "PIECE", 40)
    x, seen = torch.arange(60.0).view(2, 30, 1), []

    def sums(x: torch.Tensor, edges: Edges) -> torch.Tensor:
        seen.append(x.shape)
        return edges.fill(x.clone()).unfold(1, 4, 2).sum(-1)  # of two and their neighbours

    edges = Edges(0, ((30, True), (30, False)))
    found = piecewise(sums, x, edges, before=1, behind=1, step=2, width=8)
    assert found.shape == (2, 15, 1)
    assert seen == [(1, 12, 1)] * 6
    padded = torch.nn.functional.pad(x.transpose(1, 2), (1, 1), mode="replicate")[:, 0]
    padded[1, -1] = 0
    assert torch.equal(found[..., 0], padded.unfold(1, 4, 2).sum(-1))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("n_channels", [1, 5, 32, 33])
def test_a_half_snake_is_its_formula(n_channels, in_place):
    torch.manual_seed(0)
    layer = HalfSnake(n_channels, in_place=in_place).requires_grad_(False)
    alpha = layer.activation["snake_act"].alpha
    alpha.copy_(torch.linspace(-2, 3, alpha.numel()).view_as(alpha))
    x = 10 ** torch.empty(2, 77, n_channels).uniform_(-3, 2.5) * torch.randn(2, 77, n_channels)
    exact = layer.double()(x.double())
    layer.float()
    n_waves = n_channels // 2
    waves, a = x[..., :n_waves].double(), alpha.flatten().double()
    assert torch.allclose(exact[..., :n_waves], waves + (a * waves).sin() ** 2 / (a + 1e-9))
    assert torch.allclose(
        exact[..., n_waves:], torch.nn.functional.leaky_relu(x, 0.01).double()[..., n_waves:]
    )
    found = layer(x.clone())
    assert torch.allclose(found.double(), exact, rtol=1e-6, atol=3e-5)
    kept = x.clone()
    assert (layer(kept) is kept) == in_place


def test_a_half_snake_hides_no_number_that_is_none():
    layer = HalfSnake(4).requires_grad_(False)
    x = torch.tensor([[[float("nan"), float("inf"), float("nan"), float("inf")]]])
    assert not layer(x)[0, 0, :3].isfinite().any()


@pytest.mark.parametrize("stride", [2, 7])
def test_upsampling_is_a_transposed_convolution(stride):
    torch.manual_seed(0)
    layer = CausalUpsample(6, stride).requires_grad_(False)
    x = torch.randn(2, 9, 12)
    conv = layer.conv
    exact = torch.nn.functional.conv_transpose1d(
        x.transpose(1, 2), conv.weight, conv.bias, stride, groups=6
    )[..., stride:-stride]
    assert torch.allclose(layer(x), exact.transpose(1, 2), atol=1e-6)
    assert torch.allclose(layer.double()(x.double()), exact.transpose(1, 2).double(), atol=1e-6)


def test_no_sound_depends_on_later_codes(codec):
    tokens = torch.randint(0, 4032, (1, 4, 12), generator=torch.Generator().manual_seed(5))
    begin = codec.decode(tokens[..., :7])
    torch.testing.assert_close(codec.decode(tokens)[:, : 7 * HOP], begin, atol=1e-5, rtol=0)


def test_a_decoded_row_is_silent_behind_its_end(codec):
    tokens = torch.randint(0, 4032, (2, 4, 5), generator=torch.Generator().manual_seed(6))
    audio = codec.decode(tokens, torch.tensor([5, 2]))
    assert audio[0, 4 * HOP :].any()
    assert not audio[1, 2 * HOP :].any()
    torch.testing.assert_close(
        audio[1:, : 2 * HOP], codec.decode(tokens[1:, :, :2]), atol=1e-5, rtol=0
    )


def test_levels_become_codes_and_back_as_in_nemo():
    golden = described("fsq")
    scalars = FiniteScalars((9, 8, 8, 7))
    values = scalars.decode(torch.tensor(golden["indices"]))
    torch.testing.assert_close(values, torch.tensor(golden["codes_first_group"]))
    latents = torch.tensor(golden["latent"])  # (N, 16)
    groups = [scalars.encode(group[None])[0] for group in latents.chunk(4, dim=1)]
    assert [group.tolist() for group in groups] == golden["tokens_by_group"]


def test_codes_that_are_none_are_refused(codec):
    with pytest.raises(UserError, match="between 0 and 4031"):
        codec.decode(torch.full((1, 4, 2), 4032))


def test_nothing_to_encode_is_refused(codec):
    with pytest.raises(ValueError, match="lengths"):
        codec.encode(torch.zeros(1, 0))
