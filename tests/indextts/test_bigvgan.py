"""BigVGAN must sound as the original does, whole or in chunks, and keep its file format."""

import pytest
import torch

from indextts.vocoder.activation import AntiAliased
from indextts.vocoder.bigvgan import BigVGAN
from indextts.vocoder.config import BigVGANConfig
from tests.indextts.acoustic_golden import furthest, golden, keys_of, official_keys
from ttscommon.errors import UserError


def original(prefix="sd."):
    data = golden("bigvgan")
    generator = BigVGAN(BigVGANConfig.from_official(data.settings["config"])).eval()
    generator.load_state_dict(data.weights(prefix))
    return generator


def randomised(config, seed=0):
    """Weights large enough that far frames would be heard where they should not."""
    random = torch.Generator().manual_seed(seed)
    generator = BigVGAN(config).eval()
    for parameter in generator.parameters():
        parameter.data.normal_(0, 0.3 / max(1, parameter[0].numel()) ** 0.5, generator=random)
    return generator


@pytest.mark.parametrize("form", ["sd.", "sd_fused."])
def test_sound_equals_the_originals(form):
    data = golden("bigvgan")
    with torch.no_grad():
        sound = original(form)(data["in.mel"])
    assert furthest(sound, data["out.wav"]) < 5e-5


def test_the_activation_alone_equals_the_originals():
    data = golden("bigvgan")
    activation = original().resblocks[0].activations[0]
    assert isinstance(activation, AntiAliased)
    with torch.no_grad():
        assert furthest(activation.upsample(data["in.act_x"]), data["out.act_upsampled"]) < 1e-6
        assert furthest(activation(data["in.act_x"]), data["out.act_y"]) < 1e-6


def test_the_activation_can_be_trained():
    activation = AntiAliased(3, is_logarithmic=True).double()
    x = torch.randn(2, 3, 14, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(activation, x)
    with torch.no_grad():
        assert torch.equal(activation(x), activation(x.detach()))
        assert furthest(activation(x), activation.requires_grad_(False)(x)) < 1e-12
    activation(x).sum().backward()
    assert x.grad is not None


def test_what_is_written_has_the_names_and_shapes_of_the_official_file():
    with torch.device("meta"):
        generator = BigVGAN(BigVGANConfig())
    assert keys_of(generator) == official_keys("bigvgan_generator.pt")
    assert generator.config.hop_length == 256


def test_weights_written_and_read_back_are_the_same_bits():
    before = original()
    after = BigVGAN(before.config)
    after.load_state_dict(before.state_dict())
    assert "conv_pre.weight_g" in before.state_dict()
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_weight_norm_that_is_read_becomes_the_originals_folded_weights():
    generator, expected = original(), golden("bigvgan").weights("sd_fused.")
    found = {**dict(generator.named_parameters()), **dict(generator.named_buffers())}
    assert found.keys() >= expected.keys()
    assert max(furthest(found[key], expected[key]) for key in expected) < 1e-6


@pytest.mark.parametrize("chunk_frames", [7, 64, 500])
def test_chunks_equal_the_whole(chunk_frames):
    generator = randomised(BigVGANConfig.tiny())
    mel = torch.randn(1, 12, 97, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = generator(mel)
    assert furthest(generator.vocode(mel, chunk_frames=chunk_frames), whole) < 1e-5


def test_no_frame_reaches_further_than_the_context_says():
    generator = randomised(BigVGANConfig.tiny()).double()
    n_frames, hop = 2 * generator.context + 3, generator.config.hop_length
    mel = torch.randn(1, 12, n_frames, dtype=torch.float64)
    changed = mel.clone()
    changed[..., generator.context + 1] += 10.0
    with torch.no_grad():
        heard = (generator(mel) != generator(changed)).any(1)[0]
    assert not heard[:hop].any()
    assert not heard[-hop:].any()
    assert heard.any()


def test_an_unknown_kind_of_generator_is_refused():
    with pytest.raises(UserError, match="only snakebeta is known"):
        BigVGANConfig.from_official({"activation": "snake"})
