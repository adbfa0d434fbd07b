"""A voice comes back from a file as it was, and what is no voice is refused."""

import pytest
import torch

from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.config import S2MelConfig
from indextts.s2mel.model import S2Mel
from indextts.s2mel.speaker import SpeakerFeatures
from indextts.speaker_embeddings import SpeakerEmbeddingStore, Voice, read_voice, require_fit
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
    assert sorted(found) == sorted(names) == sorted(torch.load(path, weights_only=True))
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
    with pytest.raises(UserError, match=r"no stored speaker: truncated.*Fix: .*--save-speaker"):
        read_voice(path)


def test_a_voice_of_another_model_is_refused(voice, networks):
    require_fit(voice, *networks)
    tensors = voice.tensors()
    other = read_voice({**tensors, "prompt_condition": torch.zeros(1, 86, 768)})
    with pytest.raises(UserError, match=r"prompt_condition .* is 768 wide, this model's is 20"):
        require_fit(other, *networks)
