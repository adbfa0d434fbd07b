"""A checkpoint folder must be found whole, or refused with everything that is missing."""

import shutil
from pathlib import Path

import pytest
import yaml

from indextts.checkpoint import AUXILIARIES, FILES, CheckpointFolder, OfficialConfig
from indextts.config import GptConfig
from indextts.s2mel.config import CodecConfig, S2MelConfig
from tests.indextts.test_config import OFFICIAL
from ttscommon.catalogue import INDEXTTS2
from ttscommon.errors import UserError

FETCH = "Fix: python tools/download_checkpoints.py indextts2"


@pytest.fixture
def copy(miniature, tmp_path):
    """A checkpoint folder that a test may change."""
    return Path(shutil.copytree(miniature, tmp_path / "checkpoint"))


def changed(folder: Path, **changes: object) -> Path:
    """Lay `changes` over the folder's config.yaml; None takes a key away."""
    path = folder / "config.yaml"
    data = {**yaml.safe_load(path.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in data.items() if value is not None}
    path.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return folder


def test_every_path_leads_to_a_file_or_folder(miniature):
    folder = CheckpointFolder.open(miniature)
    assert folder.root == miniature
    files = (folder.gpt, folder.s2mel, folder.tokenizer, folder.w2v_stat, folder.emo_matrix)
    files += (folder.spk_matrix, folder.semantic_codec, folder.campplus)
    assert all(path.is_file() for path in files)
    assert (folder.w2v_bert / "model.safetensors").is_file()
    assert (folder.bigvgan / "bigvgan_generator.pt").is_file()
    assert folder.qwen_emotion is None
    assert folder.config.is_miniature


def test_the_emotion_reader_is_there_when_its_folder_is(copy):
    (copy / "qwen0.6bemo4-merge").mkdir()
    assert CheckpointFolder.open(copy).qwen_emotion == copy / "qwen0.6bemo4-merge"


def test_the_official_config_gives_the_official_sizes(copy):
    section = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))["s2mel"]
    section["preprocess_params"]["spect_params"]["n_mels"] = 80
    section["style_encoder"]["dim"] = 192
    section["length_regulator"] |= {
        "channels": 512,
        "in_channels": 1024,
        "content_codebook_size": 2048,
    }
    section["DiT"] |= {"hidden_dim": 512, "num_heads": 8, "depth": 13, "in_channels": 80}
    section["DiT"] |= {"content_dim": 512, "content_codebook_size": 1024}
    section["wavenet"] |= {"hidden_dim": 512, "num_layers": 8}
    codec = {"codebook_size": 8192, "hidden_size": 1024, "codebook_dim": 8, "vocos_dim": 384}
    codec |= {"vocos_intermediate_dim": 2048, "vocos_num_layers": 12}
    changed(copy, gpt=OFFICIAL, s2mel=section, semantic_codec=codec, miniature=None)
    config = OfficialConfig.read(copy / "config.yaml")
    sizes = (config.gpt, config.s2mel, config.codec)
    assert sizes == (GptConfig(), S2MelConfig(), CodecConfig())
    assert sum(config.emo_num) == 73
    assert not config.is_miniature


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/indextts2"])
def test_a_folder_in_one_of_the_usual_places_needs_no_name(copy, tmp_path, monkeypatch, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    copy.rename(tmp_path / place)
    monkeypatch.chdir(tmp_path)
    assert CheckpointFolder.open().root == Path(place)


def test_a_config_file_alone_names_the_folder(miniature):
    assert CheckpointFolder.open(cfg_path=miniature / "config.yaml").root == miniature


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/indextts2"])
def test_a_config_file_without_weights_beside_it_is_used_on_the_usual_folder(
    copy, tmp_path, monkeypatch, place
):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    copy.rename(tmp_path / place)
    mine = tmp_path / "mine.yaml"
    (tmp_path / place / "config.yaml").rename(mine)
    monkeypatch.chdir(tmp_path)
    assert CheckpointFolder.open(cfg_path=mine).root == Path(place)


def test_without_any_checkpoint_the_error_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"config.yaml is missing.*checkpoints/indextts2") as caught:
        CheckpointFolder.open()
    assert str(caught.value).endswith(FETCH)
    with pytest.raises(UserError, match="no such checkpoint folder"):
        CheckpointFolder.open(tmp_path / "nowhere")


def test_all_that_is_missing_is_named_at_once(copy, monkeypatch):
    missing = ["gpt.pth", "bpe.model", "campplus/campplus_cn_common.bin", "bigvgan/config.json"]
    for name in missing:
        (copy / name).unlink()
    with pytest.raises(UserError, match="4 missing: ") as caught:
        CheckpointFolder.open(copy)
    assert all(name in str(caught.value) for name in missing)
    assert str(caught.value).endswith(FETCH)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 1.5}, r"this is IndexTTS 1.x, and only 2.0 can be read \(1.x has another"),
        ({"version": 2.5}, r"this is IndexTTS 2.5, and only 2.0 can be read .*25 codes a second"),
        ({"version": 3}, "this is IndexTTS 3, and only 2.0"),
        ({"version": None, "gpt": {"model_dim": 1024}}, "this is IndexTTS 1.x"),
        ({"gpt": None}, "no section 'gpt'"),
        ({"s2mel": {}}, "s2mel configuration is incomplete"),
        ({"emo_num": [3, "x"]}, "emo_num must be a list"),
        ({"vocoder": {"type": "hifigan"}}, "only bigvgan is known"),
        ({"semantic_codec": {"hidden_size": 32}}, "semantic_codec.hidden_size 32 isn't the width"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(copy, change, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        CheckpointFolder.open(changed(copy, **change))
    assert str(copy) in str(caught.value)


def test_a_config_that_is_cut_anywhere_is_told_with_what_to_do(copy):
    path = copy / "config.yaml"
    text = path.read_text(encoding="utf-8")
    n_whole = text.index("emo_num:")
    for n_characters in range(0, n_whole, 29):
        path.write_text(text[:n_characters], encoding="utf-8")
        with pytest.raises(UserError) as caught:
            OfficialConfig.read(path)
        assert str(caught.value).endswith(FETCH.removeprefix("Fix: "))
        assert "1.x" not in str(caught.value)
    path.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="incomplete: no section 'gpt'"):
        OfficialConfig.read(path)


def test_what_is_downloaded_is_what_is_needed(copy):
    for path in copy.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match="missing: ") as caught:
        CheckpointFolder.open(copy)
    needed = set(caught.value.what.partition(": ")[2].split(", "))
    published = {Path(s.folder, name).as_posix() for s in INDEXTTS2.sources for name in s.files}
    assert published == needed | {"config.yaml", "qwen0.6bemo4-merge/*"}
    assert FILES["qwen_emo_path"] == "qwen0.6bemo4-merge/"
    auxiliary = {model.repository for model in AUXILIARIES.values()}
    assert {source.repo for source in INDEXTTS2.sources[1:]} == auxiliary


def test_a_version_that_is_not_stated_is_told_by_the_emotion_encoder(copy):
    assert CheckpointFolder.open(changed(copy, version=None)).config.version == "2.0"


def test_auxiliary_models_may_lie_elsewhere(copy, tmp_path):
    elsewhere = {}
    for name, auxiliary in AUXILIARIES.items():
        place = copy / Path(auxiliary.place).parts[0]
        elsewhere[name] = place.rename(tmp_path / name)  # a folder, for the single files too
    folder = CheckpointFolder.open(copy, aux_paths=elsewhere)
    assert folder.bigvgan == tmp_path / "bigvgan"
    assert folder.campplus == tmp_path / "campplus" / "campplus_cn_common.bin"
    elsewhere["campplus"] = folder.campplus
    assert CheckpointFolder.open(copy, aux_paths=elsewhere) == folder


def test_an_auxiliary_model_that_is_not_where_it_was_said_to_be_is_missing(miniature, tmp_path):
    with pytest.raises(UserError, match=r"missing: .*nothing/campplus_cn_common.bin|nothing"):
        CheckpointFolder.open(miniature, aux_paths={"campplus": tmp_path / "nothing"})
    with pytest.raises(UserError, match="unknown names: hubert"):
        CheckpointFolder.open(miniature, aux_paths={"hubert": tmp_path})


def test_auxiliary_models_in_the_folders_hub_cache_are_found(copy):
    snapshot = copy / "hf_cache" / "models--facebook--w2v-bert-2.0" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    (copy / "w2v-bert-2.0").rename(snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc", encoding="utf-8")
    assert CheckpointFolder.open(copy).w2v_bert == snapshot
