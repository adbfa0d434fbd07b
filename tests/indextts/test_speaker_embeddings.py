"""A voice comes back from a file as it was, and what is no voice is refused."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest
import soundfile
import torch

from indextts.checkpoint import CheckpointFolder
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.references import ReferenceReader
from indextts.s2mel.config import S2MelConfig
from indextts.s2mel.model import S2Mel
from indextts.s2mel.speaker import SpeakerFeatures
from indextts.speaker_embeddings import SpeakerEmbeddingStore, averaged_style
from indextts.stored_voice import Voice, read_voice, require_fit
from indextts.weights import load_s2mel
from tests.indextts.prepared_clips import write_noise
from ttscommon.errors import UserError


@pytest.fixture
def voice():
    random = torch.Generator().manual_seed(0)
    features = SpeakerFeatures(
        spk_cond_emb=torch.randn(1, 50, 24, generator=random),
        style=torch.randn(1, 10, generator=random),
        prompt_condition=torch.randn(1, 86, 20, generator=random),
        ref_mel=torch.randn(1, 12, 86, generator=random),
    )
    return Voice(features, torch.randn(1, 49, 24, generator=random))


@pytest.fixture(scope="module")
def networks():
    with torch.device("meta"):
        return UnifiedVoice(GptConfig.tiny()), S2Mel(S2MelConfig.tiny())


def test_a_stored_voice_comes_back_bit_for_bit(voice, tmp_path):
    store = SpeakerEmbeddingStore()
    path = tmp_path / "new" / "speaker_embeddings.pt"
    store.save_embeddings(voice, path)
    found = store.load_embeddings(path)
    names = ["spk_cond_emb", "style", "prompt_condition", "ref_mel", "emo_cond_emb"]
    kept = torch.load(path, weights_only=True)
    assert sorted(found) == sorted([*names, "_metadata"]) == sorted(kept)
    assert kept["_metadata"] == {"format": "indextts.speaker_embeddings", "version": 1}
    assert all(torch.equal(found[name], voice.tensors()[name]) for name in names)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_voice_may_be_given_in_any_form(voice, tmp_path):
    path = tmp_path / "voice.pt"
    SpeakerEmbeddingStore().save_embeddings(voice, path)
    for source in (voice, voice.features, voice.tensors(), path, str(path)):
        assert torch.equal(read_voice(source).features.ref_mel, voice.features.ref_mel)
    assert read_voice(voice) is voice


def test_files_without_a_mood_and_with_more_than_a_voice_are_read(voice, tmp_path):
    tensors = {k: v for k, v in voice.tensors().items() if k != "emo_cond_emb"}
    torch.save({**tensors, "_metadata": {"duration": 3.0}}, tmp_path / "old.pt")
    found = read_voice(tmp_path / "old.pt")
    assert torch.equal(found.emo_cond_emb, found.features.spk_cond_emb)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"style": None}, "lacks style"),
        ({"style": torch.zeros(10)}, r"style .* shape \[10\]"),
        ({"ref_mel": torch.zeros(2, 12, 86)}, "shape"),
        ({"spk_cond_emb": torch.zeros(1, 0, 24)}, "shape"),
        ({"spk_cond_emb": torch.full((1, 50, 24), torch.nan)}, "holds NaN"),
        ({"ref_mel": torch.zeros(1, 12, 80)}, "86 prompt conditions for 80 mel frames"),
    ],
)
def test_tensors_that_are_no_voice_are_refused(voice, changes, message):
    tensors = {k: v for k, v in {**voice.tensors(), **changes}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        read_voice(tensors)


def test_files_that_are_no_voice_are_refused(tmp_path):
    with pytest.raises(UserError, match="no stored speaker here"):
        read_voice(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no tensors", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.pt"):
        read_voice(tmp_path / "text.pt")
    (tmp_path / "me.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"this is a recording.*Fix: --reference-audio"):
        read_voice(tmp_path / "me.wav")
    with pytest.raises(UserError, match="a int is no stored speaker"):
        read_voice(3)  # type: ignore[arg-type]


def test_a_damaged_stored_speaker_is_to_be_made_again(voice, tmp_path):
    path = tmp_path / "me.pt"
    SpeakerEmbeddingStore().save_embeddings(voice, path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"no stored speaker: truncated.*Fix: .*extract_embeddings"):
        read_voice(path)


def test_a_voice_of_another_model_is_refused(voice, networks):
    require_fit(voice, *networks)
    tensors = voice.tensors()
    other = read_voice({**tensors, "prompt_condition": torch.zeros(1, 86, 768)})
    with pytest.raises(UserError, match=r"prompt_condition .* is 768 wide, this model's is 20"):
        require_fit(other, *networks)


def test_the_official_sizes_are_taken_and_those_of_the_guide_refused():
    with torch.device("meta"):
        gpt, s2mel = UnifiedVoice(GptConfig()), S2Mel(S2MelConfig())
    sizes = {
        "spk_cond_emb": (1, 749, 1024),
        "style": (1, 192),
        "prompt_condition": (1, 1291, 512),
        "ref_mel": (1, 80, 1291),
        "emo_cond_emb": (1, 749, 1024),
    }
    tensors = {name: torch.zeros(size) for name, size in sizes.items()}
    require_fit(read_voice(tensors), gpt, s2mel)
    for name, size in {"prompt_condition": (1, 1291, 768), "ref_mel": (1, 128, 1291)}.items():
        with pytest.raises(UserError, match=f"{name} .* wide"):
            require_fit(read_voice({**tensors, name: torch.zeros(size)}), gpt, s2mel)


def reader_of(folder) -> ReferenceReader:
    checkpoint = CheckpointFolder.open(folder)
    s2mel = load_s2mel(checkpoint.s2mel, checkpoint.config.s2mel)
    return ReferenceReader(checkpoint, s2mel, torch.device("cpu"))


@pytest.fixture(scope="module")
def reader(miniature):
    return reader_of(miniature)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Four that can prompt, and one that is too short for it unless there are no others."""
    folder = tmp_path_factory.mktemp("recordings")
    seconds = [3.0, 3.3, 3.6, 3.9, 1.0]
    for number, length in enumerate(seconds):
        write_noise(folder / f"r{number}.wav", number, length)
    return sorted(folder.iterdir())


def test_all_tensors_are_the_most_typical_recording_s_but_the_style(reader, recordings):
    store = SpeakerEmbeddingStore(reader)
    found = store.extract_averaged_embeddings(recordings)
    styles = torch.stack([reader.style(path) for path in recordings])
    likeness = torch.nn.functional.cosine_similarity(styles[:, None], styles[None], dim=-1).sum(1)
    chosen = recordings[int(likeness[:4].argmax())]  # the fifth is too short
    about = found["_metadata"]
    assert about["source"] == chosen.name
    assert about["source_sha256"] == hashlib.sha256(chosen.read_bytes()).hexdigest()
    assert about["n_recordings"] == 5
    alone = store.extract_embeddings(chosen)
    for name in ("spk_cond_emb", "prompt_condition", "ref_mel", "emo_cond_emb"):
        assert torch.equal(found[name], alone[name])
    assert torch.equal(alone["style"], reader.voice(chosen).features.style)
    assert torch.equal(found["style"][0], averaged_style(styles))


def test_the_style_s_average_is_as_long_as_styles_are():
    styles = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    mean = averaged_style(styles)
    assert mean.norm() == pytest.approx(4.0)
    assert mean.tolist() == pytest.approx((torch.tensor([1.5, 2.5]) * 4 / 8.5**0.5).tolist())


def test_a_style_alone_is_that_of_the_voice(reader, recordings):
    assert torch.equal(reader.style(recordings[0]), reader.voice(recordings[0]).features.style[0])


def test_a_prompt_is_cut_to_the_seconds_asked_for(reader, recordings):
    found = SpeakerEmbeddingStore(reader).extract_averaged_embeddings(
        recordings, prompt_seconds=2.0
    )
    assert found["ref_mel"].shape[2] == 2 * 22_050 // 256
    assert found["emo_cond_emb"].shape[1] in (99, 100)


def test_recordings_are_never_put_together_for_a_longer_prompt(reader, recordings):
    store = SpeakerEmbeddingStore(reader)
    with pytest.raises(UserError, match=r"a prompt of 7 s, but the longest recording has 3\.9 s"):
        store.extract_averaged_embeddings(recordings, prompt_seconds=7.0)
    found = store.extract_averaged_embeddings(recordings, prompt_seconds=3.7)
    assert found["_metadata"]["source"] == "r3.wav"
    with pytest.raises(UserError, match=r"isn't from 0\.5 to 15"):
        store.extract_averaged_embeddings(recordings, prompt_seconds=20)


def test_bad_recordings_among_good_ones_are_left_out_with_reasons(
    reader, recordings, tmp_path, caplog
):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    write_noise(tmp_path / "short.wav", 9, 0.2)
    soundfile.write(tmp_path / "silent.wav", np.zeros(5 * 22_050), 22_050)  # the longest of all
    bad = [tmp_path / name for name in ("broken.wav", "short.wav", "silent.wav")]
    store = SpeakerEmbeddingStore(reader)
    found = store.extract_averaged_embeddings([bad[0], *recordings[:2], *bad[1:]])
    alone = store.extract_averaged_embeddings(recordings[:2])
    assert all(torch.equal(found[k], v) for k, v in alone.items() if k != "_metadata")
    about = found["_metadata"]
    assert about["n_recordings"] == 2
    assert about["left_out"].keys() == {path.name for path in bad}
    assert "silent" in about["left_out"]["silent.wav"]
    assert "left out short.wav: a reference of 0.20 s is too short" in caplog.text
    with pytest.raises(UserError, match="none of the 3 recordings can be used; the first: "):
        store.extract_averaged_embeddings(bad)
    with pytest.raises(UserError, match="the reference is silent"):
        store.extract_averaged_embeddings(bad[2:])


def test_a_missing_encoder_is_no_recording_s_fault(miniature, recordings, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(miniature, folder)
    reader = reader_of(folder)
    CheckpointFolder.open(folder).campplus.write_bytes(b"no weights")
    with pytest.raises(UserError) as caught:
        SpeakerEmbeddingStore(reader).extract_averaged_embeddings(recordings)
    assert "recordings can be used" not in str(caught.value)


def test_voices_are_kept_by_name(voice, tmp_path):
    store = SpeakerEmbeddingStore(storage_dir=tmp_path / "voices")
    assert store.list_speakers() == []
    assert not (tmp_path / "voices").exists()
    for name in ("ozzy", "anna"):
        store.save(name, dataclasses.replace(voice, origin={"source": f"{name}.wav"}))
    assert store.list_speakers() == ["anna", "ozzy"]
    found = store.load("ozzy")
    assert found["_metadata"]["source"] == "ozzy.wav"
    assert all(torch.equal(found[k], v) for k, v in voice.tensors().items())
    assert (tmp_path / "voices" / "ozzy" / "metadata.json").is_file()
    assert store.delete("ozzy")
    assert not store.delete("ozzy")
    with pytest.raises(UserError, match=r"no stored speaker 'ozzy'.*there are: anna"):
        store.load("ozzy")
    with pytest.raises(UserError, match="can't be a speaker's name"):
        store.load("../ozzy")


def test_a_voice_of_another_acoustic_model_is_refused_and_of_another_gpt_taken(
    reader, recordings, miniature, tmp_path
):
    path = tmp_path / "voice.pt"
    store = SpeakerEmbeddingStore(reader)
    store.save_embeddings(store.extract_embeddings(recordings[4]), path)
    checkpoint = CheckpointFolder.open(miniature)
    with torch.device("meta"):
        gpt = UnifiedVoice(checkpoint.config.gpt)  # weights that nobody looks at
    s2mel = load_s2mel(checkpoint.s2mel, checkpoint.config.s2mel)
    require_fit(read_voice(path).to(torch.device("cpu")), gpt, s2mel)
    s2mel.length_regulator.content_in_proj.weight.mul_(1.01)
    with pytest.raises(UserError, match=r"\(r4\.wav\) was extracted with another acoustic model"):
        require_fit(read_voice(path), gpt, s2mel)


def test_a_file_of_a_later_version_is_refused(voice, tmp_path):
    torch.save({**voice.stored(), "_metadata": {"format": "indextts.speaker_embeddings",
                                                "version": 2}}, tmp_path / "v.pt")  # fmt: skip
    with pytest.raises(UserError, match="of version 2, this program knows 1"):
        read_voice(tmp_path / "v.pt")
