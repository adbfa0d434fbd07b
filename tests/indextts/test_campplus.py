"""Speaker vectors must be the original's, from the sound on."""

import pytest
import torch

from indextts.frontend.fbank import centred_fbank, kaldi_fbank
from indextts.s2mel.campplus import Campplus
from indextts.s2mel.config import CampplusConfig
from tests.indextts.acoustic_golden import furthest, golden, keys_of, official_keys


@pytest.fixture(scope="module")
def campplus():
    data = golden("campplus")
    sizes = data.settings["config"]
    names = {"feat_dim": "n_mels", "bn_size": "bottleneck_size"}
    made = Campplus(CampplusConfig(**{names.get(key, key): n for key, n in sizes.items()})).eval()
    made.load_state_dict(data.weights())
    return made.requires_grad_(False)


def test_the_filter_bank_equals_the_originals():
    data = golden("campplus")
    bank, expected = kaldi_fbank(data["in.wav16k"][0]), data["out.fbank"]
    assert furthest(bank.exp(), expected.exp()) < 1e-5
    assert furthest(bank[expected > -3], expected[expected > -3]) < 1e-5
    # In bands without sound the logarithm shows the rounding of the FFT, and with it which
    # processor computed: there the recorded values themselves are 8e-5 off those of float64.
    assert furthest(bank, expected) < 2e-4
    assert furthest(centred_fbank(data["in.wav16k"])[0], data["out.feat"]) < 2e-4


def test_the_speaker_vector_from_the_sound_on_equals_the_originals(campplus):
    data = golden("campplus")
    assert furthest(campplus(centred_fbank(data["in.wav16k"])), data["out.style"]) < 2e-5


def test_the_speaker_vector_equals_the_originals(campplus):
    data = golden("campplus")
    assert furthest(campplus(data["out.feat"][None]), data["out.style"]) < 2e-5


def test_a_batch_equals_the_originals_part_by_part(campplus):
    data, heard = golden("campplus"), {}
    parts = {
        "head": campplus.head,
        "tdnn": campplus.xvector.tdnn,
        "block1": campplus.xvector.block1,
    }
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: heard.update({name: out}))
        for name, part in parts.items()
    ]
    style = campplus(data["in.feat_batch"])
    for hook in hooks:
        hook.remove()
    for name, value in heard.items():
        assert furthest(value, data[f"out.{name}_batch"]) < 2e-5, name
    assert furthest(style, data["out.style_batch"]) < 2e-5


def test_what_is_written_has_the_names_and_shapes_of_the_official_file():
    with torch.device("meta"):
        official = Campplus(CampplusConfig())
    assert keys_of(official) == official_keys("campplus_cn_common.bin")


def test_too_little_sound_is_refused_and_the_least_is_not(campplus):
    with pytest.raises(ValueError, match="399 samples are too few"):
        kaldi_fbank(torch.zeros(399))
    with pytest.raises(ValueError, match="2 frames are too few"):
        campplus(torch.zeros(1, 2, 80))
    assert campplus(torch.randn(1, 3, 80)).isfinite().all()
