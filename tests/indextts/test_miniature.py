"""The miniature checkpoint must be whole, small, the same for a seed, and come to an end."""

from pathlib import Path

import pytest
import torch

from indextts.checkpoint import CheckpointFolder
from indextts.config import DecodingConfig
from indextts.frontend.tokenizer import TextTokenizer
from indextts.frontend.w2v_bert import W2vBert
from indextts.gpt.decoding import generate
from indextts.miniature import write_miniature
from indextts.s2mel.reference import speaker_features, to_16k
from indextts.weights import (
    fingerprint,
    load_bigvgan,
    load_campplus,
    load_codec,
    load_gpt,
    load_matrices,
    load_s2mel,
)
from tools import make_tiny_checkpoint
from ttscommon.errors import UserError

SHORT, LONG = "Hello.", "This is a test of the system, and it goes on for a while, as sentences do."
SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def folder(miniature):
    return CheckpointFolder.open(miniature)


@pytest.fixture(scope="module")
def audio():
    """Two seconds of noise as a reference."""
    return torch.randn(1, 44_100, generator=torch.Generator().manual_seed(0)) / 10


@pytest.fixture(scope="module")
def features(folder, audio):
    return W2vBert.from_folder(folder.w2v_bert, folder.w2v_stat)(to_16k(audio, 22_050))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@torch.no_grad()
def lengths(folder, features, text: str, decoding: DecodingConfig) -> list[int]:
    """Numbers of codes written for a text, for each of the seeds."""
    gpt = load_gpt(folder.gpt, folder.config.gpt)
    ids = TextTokenizer(folder.tokenizer).encode(text)
    mood = gpt.emotion_vector(features)
    prefix = gpt.prefix(gpt.speaker_latent(features), mood, [ids] * len(SEEDS))
    written = generate(gpt, prefix, decoding, SEEDS)
    assert all(one.is_complete for one in written)
    assert all(int(one.codes.max()) < folder.config.codec.codebook_size for one in written)
    return [len(one.codes) for one in written]


def test_it_holds_every_official_file_in_less_than_ten_megabytes(miniature):
    files = contents(miniature)
    assert set(files) == {
        *("config.yaml", "gpt.pth", "s2mel.pth", "bpe.model", "wav2vec2bert_stats.pt"),
        *("feat1.pt", "feat2.pt", "README.txt", "semantic_codec/model.safetensors"),
        *("campplus/campplus_cn_common.bin", "bigvgan/config.json"),
        *("bigvgan/bigvgan_generator.pt", "w2v-bert-2.0/config.json"),
        *("w2v-bert-2.0/preprocessor_config.json", "w2v-bert-2.0/model.safetensors"),
    }
    assert sum(map(len, files.values())) < 10_000_000


def test_a_seed_gives_the_same_bytes_and_moves_nobodys_randomness(miniature, tmp_path):
    before = torch.random.get_rng_state()
    write_miniature(tmp_path / "again", seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert contents(tmp_path / "again") == contents(miniature)


def test_another_seed_gives_other_weights_everywhere(miniature, folder, tmp_path):
    write_miniature(tmp_path / "other", seed=1)
    one, other = contents(miniature), contents(tmp_path / "other")
    assert one.keys() == other.keys()
    equal = {name for name in one if one[name] == other[name]}
    configs = {"README.txt", "bigvgan/config.json", "w2v-bert-2.0/config.json"}
    assert equal == {
        *configs,
        *("config.yaml", "bpe.model", "w2v-bert-2.0/preprocessor_config.json"),
    }
    gpts = [
        load_gpt(place / "gpt.pth", folder.config.gpt) for place in (miniature, tmp_path / "other")
    ]
    assert fingerprint(gpts[0]) != fingerprint(gpts[1])


@pytest.mark.parametrize(
    "decoding",
    [DecodingConfig(), DecodingConfig(num_beams=1), DecodingConfig.greedy()],
    ids=["beams", "sampling", "greedy"],
)
def test_it_comes_to_an_end_after_a_length_that_fits_the_text(folder, features, decoding):
    short, long = (lengths(folder, features, text, decoding) for text in (SHORT, LONG))
    assert 15 <= min(short) <= max(short) <= 40  # 0.3 to 0.8 s
    assert 2 * max(short) < min(long) <= max(long) <= 150


@pytest.mark.parametrize("text", ["A.", "今天的天气很好。", 4 * LONG])
def test_no_text_ends_at_once_or_never(folder, features, text):
    found = lengths(folder, features, text, DecodingConfig(max_mel_tokens=600))
    assert 10 <= min(found) <= max(found) < 600


@torch.no_grad()
def test_what_it_speaks_is_audible_noise(folder, audio, features):
    codec = load_codec(folder.semantic_codec, folder.config.codec)
    s2mel = load_s2mel(folder.s2mel, folder.config.s2mel)
    campplus = load_campplus(folder.campplus)
    voice = speaker_features(audio, features, s2mel, codec, campplus)
    assert 0.2 < voice.style.std() < 5
    codes, chance = torch.arange(30)[None], torch.Generator().manual_seed(0)
    condition = s2mel.condition(codec.embed(codes), torch.randn(1, 30, 48, generator=chance))
    n_frames = voice.ref_mel.shape[2] + condition.shape[1]
    noise = torch.randn(1, 12, n_frames, generator=chance)
    sound = load_bigvgan(folder.bigvgan).vocode(
        s2mel.mels([condition], [voice], [noise], n_steps=4)[0]
    )
    assert sound.shape == (1, 1, 256 * condition.shape[1])
    assert 0.02 < sound.std() < 0.5
    assert (sound.abs() == 1).float().mean() < 0.01  # hardly clipped


def test_the_tokenizer_knows_letters_digits_and_marks(folder):
    tokenizer = TextTokenizer(folder.tokenizer)
    written = "THE QUICK BROWN FOX JUMPS OVER 13 LAZY DOGS, DOESN'T IT? 2 - 4 5 6 7 8 9 0!"
    ids = tokenizer.model.EncodeAsIds(written)
    assert tokenizer.unknown_id not in ids
    assert tokenizer.model.GetPieceSize() == folder.config.gpt.number_text_tokens
    assert tokenizer.model.DecodeIds(ids) == written


def test_the_mood_of_a_speaker_can_be_mixed_with_the_examples(folder, features):
    speakers, emotions = load_matrices(folder)
    gpt = load_gpt(folder.gpt, folder.config.gpt)
    assert emotions.shape[1] == gpt.emotion_vector(features).shape[1]
    assert speakers.shape[1] == folder.config.s2mel.dit.style_dim


def test_a_checkpoint_is_replaced_only_when_told_to(tmp_path, capsys):
    output = tmp_path / "tiny"
    make_tiny_checkpoint.main(["--output", str(output)])
    said = capsys.readouterr().out
    assert "15 files" in said
    assert "noise" in said
    with pytest.raises(UserError, match=r"a miniature checkpoint is here already.*--overwrite"):
        make_tiny_checkpoint.main(["--output", str(output)])
    first = contents(output)
    make_tiny_checkpoint.main(["--output", str(output), "--seed", "3", "--overwrite"])
    assert contents(output)["gpt.pth"] != first["gpt.pth"]


@pytest.mark.parametrize(
    ("files", "flags", "complaint"),
    [
        (["config.yaml", "gpt.pth"], [], "a real checkpoint is here already"),
        (["thesis.txt"], ["--overwrite"], "something else than a checkpoint"),
        (["config.yaml", "higgs/a.bin"], ["--overwrite"], "with all that is in it: higgs"),
    ],
)
def test_what_is_of_value_stays(tmp_path, files, flags, complaint):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("version: 2.0\n", encoding="utf-8")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=complaint):
        make_tiny_checkpoint.main(["--output", str(tmp_path), *flags])
    assert contents(tmp_path) == before
