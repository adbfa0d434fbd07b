"""Vocoders: the sound must carry the mel it was made from, and foreign files must be refused."""

import pickle

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import yaml

from lewm.vocoder import load_vocoder
from ttscommon.errors import UserError
from ttscommon.mel import MelRecipe, log_mel

RECIPE = MelRecipe()


def vowel(seconds=0.6, sample_rate=24_000):
    """A buzz of 12 harmonics with a gliding pitch."""
    t = torch.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * torch.pi * (120 * t + 30 * t.square())
    wave = sum(torch.sin(k * phase) / k for k in range(1, 13))
    return 0.1 * wave * torch.sin(torch.pi * t / seconds)


def hparams(dim, intermediate_dim, n_layers, **mel):
    """A config.yaml in the layout of the official Vocos repository."""
    features = {
        "sample_rate": 24000,
        "n_fft": 1024,
        "hop_length": 256,
        "n_mels": 100,
        **mel,
    }
    backbone = {"input_channels": 100, "dim": dim, "intermediate_dim": intermediate_dim}
    return {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": {**features, "padding": "center"},
        },
        "backbone": {
            "class_path": "vocos.models.VocosBackbone",
            "init_args": {**backbone, "num_layers": n_layers},
        },
        "head": {
            "class_path": "vocos.heads.ISTFTHead",
            "init_args": {
                "dim": dim,
                "n_fft": 1024,
                "hop_length": 256,
                "padding": "center",
            },
        },
    }


def weights(dim, intermediate_dim, n_layers):
    """Random weights under the key names and shapes of the public 24 kHz mel Vocos."""
    shapes = {
        "feature_extractor.mel_spec.spectrogram.window": (1024,),
        "feature_extractor.mel_spec.mel_scale.fb": (513, 100),
        "backbone.embed.weight": (dim, 100, 7),
        "backbone.embed.bias": (dim,),
        "backbone.norm.weight": (dim,),
        "backbone.norm.bias": (dim,),
        "backbone.final_layer_norm.weight": (dim,),
        "backbone.final_layer_norm.bias": (dim,),
        "head.out.weight": (1026, dim),
        "head.out.bias": (1026,),
        "head.istft.window": (1024,),
    }
    block = {
        "gamma": (dim,),
        "dwconv.weight": (dim, 1, 7),
        "dwconv.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "pwconv1.weight": (intermediate_dim, dim),
        "pwconv1.bias": (intermediate_dim,),
        "pwconv2.weight": (dim, intermediate_dim),
        "pwconv2.bias": (dim,),
    }
    for i in range(n_layers):
        shapes |= {f"backbone.convnext.{i}.{name}": shape for name, shape in block.items()}
    generator = torch.Generator().manual_seed(0)
    tensors = {key: 0.02 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    tensors["head.istft.window"] = torch.hann_window(1024)
    return tensors


def write_vocos(folder, sizes=(16, 32, 2), **mel):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(hparams(*sizes, **mel)), encoding="utf-8")
    torch.save(weights(*sizes), folder / "pytorch_model.bin")
    return folder


@pytest.fixture(autouse=True)
def no_cached_vocos(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_griffin_lim_sounds_like_the_mel_it_was_given():
    mel = log_mel(vowel()[None], RECIPE)
    audio = load_vocoder("griffinlim", RECIPE).synthesize(mel)
    assert audio.shape == (1, (mel.shape[-1] - 1) * 256)
    # Floored at -9, as the evaluation does: what is quieter can't be heard.
    heard, wanted = log_mel(audio, RECIPE).clamp(min=-9), mel.clamp(min=-9)
    assert (heard - wanted).abs().mean() < 0.35
    assert (wanted - wanted.mean()).abs().mean() > 1  # so a constant would have failed


def test_griffin_lim_gives_the_same_wave_for_the_same_mel_in_any_batch():
    mels = torch.stack([log_mel(vowel(), RECIPE), log_mel(0.3 * vowel(), RECIPE)])
    vocoder = load_vocoder("griffinlim", RECIPE)
    state = torch.get_rng_state()
    together = vocoder.synthesize(mels)
    assert torch.equal(together[1:], vocoder.synthesize(mels[1:]))
    assert torch.equal(state, torch.get_rng_state())


def test_griffin_lim_takes_a_mel_shorter_than_its_window():
    audio = load_vocoder("griffinlim", RECIPE).synthesize(torch.zeros(1, 100, 2))
    assert audio.shape == (1, 256)
    assert audio.isfinite().all()


def test_vocos_folder_is_used_and_named(tmp_path):
    folder = write_vocos(tmp_path / "mine")
    vocoder = load_vocoder(f"vocos:{folder}", RECIPE)
    assert vocoder.name == f"vocos:{folder}"
    mel = log_mel(vowel()[None], RECIPE)
    audio = vocoder.synthesize(mel)
    assert audio.shape == (1, (mel.shape[-1] - 1) * 256)
    assert torch.equal(audio, load_vocoder(f"vocos:{folder}", RECIPE).synthesize(mel))


def test_the_public_full_size_key_list_loads(tmp_path):
    sizes = (512, 1536, 8)
    vocoder = load_vocoder(f"vocos:{write_vocos(tmp_path / 'full', sizes)}", RECIPE)
    assert len(weights(*sizes)) == 83
    assert sum(p.numel() for p in vocoder.network.parameters()) == 13_531_650


def test_auto_is_griffin_lim_until_the_official_vocos_is_there(tmp_path):
    assert load_vocoder("auto", RECIPE).name == "griffinlim"
    write_vocos(tmp_path / "checkpoints" / "vocos")
    assert load_vocoder("auto", RECIPE).name == "vocos:charactr/vocos-mel-24khz"
    other = MelRecipe(hop_length=300)
    assert load_vocoder("auto", other).name == "griffinlim"


def test_vocos_of_another_mel_recipe_is_refused(tmp_path):
    folder = write_vocos(tmp_path / "other", hop_length=300)
    with pytest.raises(UserError, match="made for other mels"):
        load_vocoder(f"vocos:{folder}", RECIPE)


def test_vocos_configuration_that_names_foreign_code_is_refused(tmp_path):
    folder = write_vocos(tmp_path / "strange")
    settings = hparams(16, 32, 2)
    settings["head"] = {"class_path": "os.system", "init_args": {"command": "true"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(UserError, match=r"not a Vocos configuration \(head: os.system\)"):
        load_vocoder(f"vocos:{folder}", RECIPE)


class Touch:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_broken_or_malicious_vocos_weights_are_refused(tmp_path):
    folder = write_vocos(tmp_path / "broken")
    path = folder / "pytorch_model.bin"
    whole, trap = path.read_bytes(), tmp_path / "trap"
    bad = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "pickle": pickle.dumps(Touch(trap)),
    }
    for content in bad.values():
        path.write_bytes(content)
        with pytest.raises(UserError, match="weights of this Vocos"):
            load_vocoder(f"vocos:{folder}", RECIPE)
    torch.save({"backbone.embed.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="weights of this Vocos"):
        load_vocoder(f"vocos:{folder}", RECIPE)
    assert not trap.exists()


def test_missing_vocos_and_unknown_names_are_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for spec, word in [
        (f"vocos:{tmp_path / 'empty'}", "no such configuration file"),
        ("vocos:nobody/no-such-vocos", "could be fetched"),
        ("vocos:", "unknown vocoder"),
        ("hifigan", "unknown vocoder 'hifigan'"),
    ]:
        with pytest.raises(UserError, match=word) as error:
            load_vocoder(spec, RECIPE)
        assert "\n" not in str(error.value)


def test_griffin_lim_output_is_ordinary_audio():
    audio = load_vocoder("griffinlim", RECIPE).synthesize(log_mel(vowel()[None], RECIPE)).numpy()
    assert audio.dtype == np.float32
    assert 0.05 < np.abs(audio).max() <= 1
