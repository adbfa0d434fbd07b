"""The whole acoustic side must give the original's sound for its codes, latents and noise."""

import numpy as np
import pytest
import torch
from torchaudio.transforms import Resample

from indextts.frontend.fbank import centred_fbank
from indextts.s2mel.config import S2MelConfig
from indextts.s2mel.model import BatchLimits, S2Mel
from indextts.s2mel.reference import speaker_features, to_16k
from indextts.s2mel.speaker import SpeakerFeatures
from indextts.vocoder.waveform import silence, to_int16
from tests.indextts.acoustic_golden import (
    furthest,
    golden,
    keys_of,
    official_keys,
    pipeline_parts,
)
from ttscommon.errors import UserError

SEGMENTS = [0, 1]


@pytest.fixture(scope="module")
def data():
    return golden("s2mel_pipeline")


@pytest.fixture(scope="module")
def parts():
    return pipeline_parts()


@pytest.fixture(scope="module")
def speaker(data, parts):
    audio = data["in.prompt_pcm16"].float()[None] / 32768
    features = (data["in.w2v_hidden17"] - data["in.w2v_mean"]) / data["in.w2v_var"].sqrt()
    return speaker_features(audio, features, parts.s2mel, parts.codec, parts.campplus)


@pytest.fixture(scope="module")
def conditions(data, parts):
    made = []
    for segment in SEGMENTS:
        latent = data[f"in.latent{segment}"]
        codes = data[f"in.codes{segment}"][:, : latent.shape[1]]  # without the stop token
        made.append(parts.s2mel.condition(parts.codec.embed(codes), latent))
    return made


def mels(data, parts, speaker, conditions, **settings):
    noises = [data[f"in.noise{segment}"] for segment in SEGMENTS]
    return parts.s2mel.mels(conditions, [speaker] * len(SEGMENTS), noises, **settings)


def test_the_voice_equals_the_originals(data, parts, speaker):
    audio = data["in.prompt_pcm16"].float()[None] / 32768
    assert furthest(to_16k(audio, 22_050), data["out.audio_16k"]) < 1e-6
    for name in ("spk_cond_emb", "style", "prompt_condition", "ref_mel"):
        assert furthest(getattr(speaker, name), data[f"out.{name}"]) < 5e-5, name
    assert furthest(parts.codec.quantize(speaker.spk_cond_emb)[1], data["out.S_ref"]) < 2e-5


def test_a_loud_clip_is_resampled_by_the_originals_kernel():
    audio = torch.rand(1, 5 * 22_050, generator=torch.Generator().manual_seed(0)) * 2 - 1
    originals = Resample(22_050, 16_000)(audio)  # torchaudio's function is 2e-5 from it
    assert furthest(to_16k(audio, 22_050), originals) < 1e-6
    banks = [centred_fbank(sound, 80) for sound in (to_16k(audio, 22_050), originals)]
    assert furthest(*banks) < 5e-5


@pytest.mark.parametrize("segment", SEGMENTS)
def test_conditions_equal_the_originals(data, parts, conditions, segment):
    latent = data[f"in.latent{segment}"]
    assert furthest(parts.s2mel.gpt_layer(latent), data[f"out.gpt_layer{segment}"]) < 2e-5
    assert conditions[segment].shape[1] == data[f"out.target_lengths{segment}"].item()
    assert furthest(conditions[segment], data[f"out.cond{segment}"]) < 2e-5


TOGETHER, ALONE = BatchLimits(16_384, 1.0), BatchLimits(1, 1.0)


@pytest.mark.parametrize("limits", [ALONE, TOGETHER, None])
def test_mels_equal_the_originals_alone_and_together(data, parts, speaker, conditions, limits):
    made = mels(data, parts, speaker, conditions, limits=limits)
    for segment, mel in enumerate(made):
        assert furthest(mel, data[f"out.vc_target{segment}"]) < 5e-5


def test_the_sound_equals_the_originals_to_the_last_bits(data, parts, speaker, conditions):
    segments = []
    for segment, mel in enumerate(mels(data, parts, speaker, conditions)):
        sound = parts.bigvgan.vocode(mel)
        assert furthest(sound, data[f"out.wav{segment}"]) < 5e-5
        segments.append(to_int16(sound[0, 0]))
    samples = np.concatenate([segments[0], silence(0.2, 22_050), segments[1]])
    assert len(samples) == len(data["out.int16"])
    assert abs(samples.astype(int) - data["out.int16"][:, 0].numpy().astype(int)).max() <= 2


@pytest.mark.parametrize("limits", [TOGETHER, BatchLimits(400, 0.05), None])
def test_segments_come_back_in_the_order_given(parts, speaker, limits):
    random = torch.Generator().manual_seed(0)
    lengths, n_prompt = [9, 60, 10, 58, 9], speaker.ref_mel.shape[2]
    conditions = [torch.randn(1, n, 20, generator=random) for n in lengths]
    noises = [torch.randn(1, 12, n_prompt + n, generator=random) for n in lengths]
    together = parts.s2mel.mels(conditions, [speaker] * 5, noises, n_steps=2, limits=limits)
    for i, mel in enumerate(together):
        alone = parts.s2mel.mels(conditions[i : i + 1], [speaker], noises[i : i + 1], n_steps=2)
        assert furthest(mel, alone[0]) < 2e-5


def test_nothing_to_say_is_no_mel(parts):
    assert parts.s2mel.mels([], [], []) == []


@pytest.mark.parametrize(
    ("limits", "n_rows"),
    [(TOGETHER, [3]), (ALONE, [1, 1, 1]), (BatchLimits(420, 1.0), [2, 1]), (None, [1, 2])],
)
def test_a_batch_keeps_to_its_limits(parts, speaker, monkeypatch, limits, n_rows):
    found, n_prompt = [], speaker.ref_mel.shape[2]
    run = parts.s2mel.cfm.inference
    watched = lambda condition, *rest, **options: (  # noqa: E731
        found.append(len(condition)) or run(condition, *rest, **options)
    )
    monkeypatch.setattr(parts.s2mel.cfm, "inference", watched)
    conditions = [torch.zeros(1, n, 20) for n in (90, 60, 60)]
    noises = [torch.zeros(1, 12, n_prompt + n) for n in (90, 60, 60)]
    parts.s2mel.mels(conditions, [speaker] * 3, noises, n_steps=1, limits=limits)
    assert found == n_rows


@pytest.mark.parametrize(("factor", "n_frames"), [(0.5, 21), (1.0, 43), (2.0, 86)])
def test_the_duration_factor_stretches_a_segment(data, parts, factor, n_frames):
    codes, latent = data["in.codes0"][:, :25], data["in.latent0"]
    condition = parts.s2mel.condition(parts.codec.embed(codes), latent, factor)
    assert condition.shape == (1, n_frames, 20)


def test_what_is_written_has_the_names_and_shapes_of_the_official_file():
    with torch.device("meta"):
        official = S2Mel(S2MelConfig())
    assert keys_of(official) == official_keys("s2mel.pth")


def test_a_voice_whose_parts_differ_in_length_is_refused(speaker):
    with pytest.raises(ValueError, match="110 prompt conditions for 111 mel frames"):
        SpeakerFeatures(
            speaker.spk_cond_emb,
            speaker.style,
            speaker.prompt_condition[:, 1:],
            speaker.ref_mel,
        )


def test_an_official_config_for_another_network_is_refused(data):
    section = data.settings["config"]["s2mel"]
    other = {**section, "DiT": {**section["DiT"], "is_causal": True}}
    with pytest.raises(UserError, match="is_causal is True, but only False is known"):
        S2MelConfig.from_official(other, (24, 28))
    without = {key: value for key, value in section.items() if key != "wavenet"}
    with pytest.raises(UserError, match="incomplete: 'wavenet'"):
        S2MelConfig.from_official(without, (24, 28))


def test_silence_is_as_long_as_the_original_makes_it():
    for milliseconds in range(1001):
        assert len(silence(milliseconds / 1000, 22_050)) == int(22_050 * milliseconds / 1000)
    assert len(silence(-1.0, 22_050)) == 0


def test_sixteen_bit_samples_are_cut_towards_zero():
    assert to_int16(torch.tensor([0.99999, -0.99999, 2.0, -2.0])).tolist() == [
        32766,
        -32766,
        32767,
        -32767,
    ]
