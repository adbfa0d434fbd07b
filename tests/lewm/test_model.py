import dataclasses

import pytest
import torch
from torch import Tensor

from lewm.config import ModelConfig
from lewm.loss import (
    MultiResolutionSpectralLoss,
    guided_attention,
    kl_to_standard_normal,
    reconstruction_l1,
    sigreg,
    stop_loss,
)
from lewm.model import AudioEncoder, LeWMTTS, MelDecoder, TextEncoder
from ttscommon.mel import MelRecipe

TINY = dataclasses.replace(ModelConfig.tiny(), dropout=0.0)
LENGTHS = torch.tensor([37, 22])


def mask_of(lengths: Tensor, n: int | None = None) -> Tensor:
    return torch.arange(n or int(lengths.max())) < lengths[:, None]


def build(config: ModelConfig = TINY) -> LeWMTTS:
    torch.manual_seed(0)
    return LeWMTTS(config, MelRecipe()).eval()


@pytest.mark.parametrize(
    ("preset", "low", "high"), [("base", 23e6, 24e6), ("small", 6e6, 8e6), ("tiny", 2.3e6, 2.7e6)]
)
def test_presets_have_the_promised_number_of_parameters(preset, low, high):
    n = sum(p.numel() for p in build(ModelConfig.named(preset)).parameters())
    assert low <= n <= high


def text_rows(network: TextEncoder, mask: Tensor, junk: float) -> Tensor:
    ids = torch.arange(2 * 60).view(2, 60)[:, : mask.shape[1]] % 250 + 1
    return network(ids.masked_fill(~mask, 7 if junk else 0), mask)


def audio_rows(network: AudioEncoder, mask: Tensor, junk: float) -> Tensor:
    torch.manual_seed(1)
    mel = torch.randn(2, 100, 60)[..., : mask.shape[1]]
    return torch.cat(network(mel.masked_fill(~mask[:, None], junk), mask), dim=-1)


def decoder_rows(network: MelDecoder, mask: Tensor, junk: float) -> Tensor:
    torch.manual_seed(1)
    latents = torch.randn(2, 60, TINY.latent_dim)[:, : mask.shape[1]]
    return network(latents.masked_fill(~mask[..., None], junk), mask).transpose(1, 2)


NETWORKS = {
    "text_encoder": (text_rows, 1.0),
    "audio_encoder": (audio_rows, 0.25),
    "mel_decoder": (decoder_rows, 4.0),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("junk", [0.0, torch.nan, torch.inf])
def test_padding_changes_neither_output_nor_gradient(name, junk):
    run, rate = NETWORKS[name]
    network = getattr(build(), name)
    results = []
    for n_extra in (0, 9):
        mask = mask_of(LENGTHS, int(LENGTHS.max()) + n_extra)
        out = run(network, mask, junk if n_extra else 0.0)
        real = mask_of((LENGTHS * rate).ceil().long(), out.shape[1])
        network.zero_grad()
        out.masked_fill(~real[..., None], 0).square().sum().backward()
        results.append((out[real], [p.grad.clone() for p in network.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=0)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_gives_what_each_row_gives_alone(name):
    run, rate = NETWORKS[name]
    network = getattr(build(), name)
    together = run(network, mask_of(LENGTHS), 0.0)
    for b, n in enumerate(LENGTHS.tolist()):
        alone = run(network, torch.ones(2, n, dtype=torch.bool), 0.0)[b]
        n_out = -int(-n * rate // 1)
        torch.testing.assert_close(together[b, :n_out], alone[:n_out], atol=1e-5, rtol=0)


@pytest.mark.parametrize("downsample", [2, 4])
@pytest.mark.parametrize("n_frames", [1, 4, 5, 97])
def test_a_latent_stands_for_downsample_frames_rounded_up(downsample, n_frames):
    model = build(dataclasses.replace(TINY, downsample=downsample))
    mask = torch.ones(1, n_frames, dtype=torch.bool)
    latents = model.encode(torch.randn(1, 100, n_frames), mask)
    n_latents = -(-n_frames // downsample)
    assert latents.shape == (1, n_latents, TINY.latent_dim)
    assert model.latent_mask(mask).shape == (1, n_latents)
    assert model.decode(latents).shape == (1, 100, n_latents * downsample)
    assert model.frame_rate == pytest.approx(93.75 / downsample)


def test_log_variances_stay_in_their_range():
    encoder = build().audio_encoder
    with torch.no_grad():
        encoder.out.bias += torch.linspace(-50, 50, len(encoder.out.bias))
    _, log_variance = encoder(torch.randn(1, 100, 16), torch.ones(1, 16, dtype=torch.bool))
    assert log_variance.min() >= -8
    assert log_variance.max() <= 4


def test_a_latent_hears_only_its_neighbourhood():
    encoder = build().audio_encoder
    mel, mask = torch.randn(1, 100, 400), torch.ones(1, 400, dtype=torch.bool)
    changed = mel.clone()
    changed[..., :40] += 1
    before, after = encoder(mel, mask)[0], encoder(changed, mask)[0]
    assert not torch.allclose(before[:, 5], after[:, 5])
    torch.testing.assert_close(before[:, 50:], after[:, 50:])


def test_texts_and_audio_far_beyond_any_clip_are_taken():
    model = build()
    ids, mask = torch.full((1, 3000), 98), torch.ones(1, 3000, dtype=torch.bool)
    assert model.text_encoder(ids, mask).isfinite().all()
    mel, mask = torch.randn(1, 100, 5000), torch.ones(1, 5000, dtype=torch.bool)
    assert model.encode(mel, mask).isfinite().all()


def test_speakers_and_languages_colour_the_text_and_none_means_the_first():
    model = build(dataclasses.replace(TINY, speakers=("ann", "bob"), languages=("en", "hi")))
    ids, mask = torch.tensor([[257, 98, 99, 258]]), torch.ones(1, 4, dtype=torch.bool)
    first, second = torch.tensor([0]), torch.tensor([1])
    plain = model.text_encoder(ids, mask)
    torch.testing.assert_close(plain, model.text_encoder(ids, mask, first, first))
    for rows in ((second, first), (first, second)):
        assert not torch.allclose(plain, model.text_encoder(ids, mask, *rows))


def test_normalising_and_standardising_are_undone():
    model = build()
    model.set_mel_statistics(-2.3, 3.9)
    model.set_latent_statistics(torch.randn(32), torch.linspace(0.5, 2, 32))
    mel, latents = torch.randn(1, 100, 8), torch.randn(1, 2, 32)
    torch.testing.assert_close(model.denormalise(model.normalise(mel)), mel)
    torch.testing.assert_close(model.destandardise(model.standardise(latents)), latents)


def test_digital_silence_and_dead_dimensions_are_floored():
    model = build()
    model.set_latent_statistics(torch.zeros(32), torch.zeros(32))
    assert model.standardise(torch.full((1, 1, 32), 0.05)).max() <= 1.01
    assert model.normalise(torch.full((1, 100, 1), -16.1)).min() == -9.5


def test_a_recipe_of_other_bands_is_refused():
    with pytest.raises(ValueError, match="80-band"):
        LeWMTTS(TINY, MelRecipe(n_mels=80))


@pytest.mark.parametrize("head", ["mse", "flow"])
@pytest.mark.parametrize("regularizer", ["kl", "sigreg"])
def test_every_weight_learns_from_the_sum_of_all_losses(head, regularizer):
    config = dataclasses.replace(
        TINY, head=head, regularizer=regularizer, speakers=("a", "b"), languages=("en", "hi")
    )
    model = build(config).train()
    mask, text_mask = mask_of(LENGTHS), mask_of(torch.tensor([12, 9]))
    mel = model.normalise(torch.randn(2, 100, 37))
    mean, log_variance = model.audio_encoder(mel, mask)
    latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    latent_mask = model.latent_mask(mask)
    decoded = model.mel_decoder(latents, latent_mask)[..., :37]
    rows = torch.tensor([0, 1])
    text = model.text_encoder(torch.randint(1, 257, (2, 12)), text_mask, rows, rows)
    said = model.predictor(model.standardise(latents), text, text_mask, need_attention=True)
    total = (
        reconstruction_l1(decoded, mel, mask)
        + MultiResolutionSpectralLoss()(decoded, mel, mask)
        + model.predictor.head.loss(said.hidden, mean.detach(), latent_mask, n_draws=2)
        + stop_loss(said.stop_logits, latent_mask)
        + guided_attention(said.attention, text_mask.sum(1), latent_mask.sum(1))
        + (
            kl_to_standard_normal(mean, log_variance, latent_mask)
            if regularizer == "kl"
            else sigreg(mean, latent_mask, n_directions=16)
        )
    )
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
