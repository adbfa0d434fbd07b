"""The download tool against a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lewm.test_vocoder import write_vocos
from tests.ttscommon.evaluation.test_voices import write_wavlm
from tests.ttscommon.fake_hub import COMMIT, FakeHub, serving
from tools import download_checkpoints
from ttscommon.catalogue import FAMILIES
from ttscommon.errors import UserError
from ttscommon.evaluation.voices import load_xvector

NOBODY = "http://127.0.0.1:9"
WEIGHTS = random.Random(0).randbytes(300_000)
VOCOS = {"config.yaml": b"a: 1\n", "pytorch_model.bin": WEIGHTS, "README.md": b"not needed"}


@pytest.fixture
def hub(monkeypatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # it keeps these
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fake = FakeHub({"charactr/vocos-mel-24khz": dict(VOCOS)}, large={"pytorch_model.bin"})
    with serving(fake):
        yield fake


@pytest.fixture
def kani(hub) -> FakeHub:
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": b"[]"}
    files |= {"chat_template.jinja": b"", "onnx/model.safetensors": b"another form"}
    hub.repos["nineninesix/kani-tts-400m-0.3-pt"] = files
    hub.repos["nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps"] = {"codec.nemo": WEIGHTS}
    hub.large = {"model.safetensors", "codec.nemo"}
    return hub


def download(folder: Path, endpoint: str, *words: str) -> None:
    words = (*words, "--output-dir", str(folder), "--endpoint", endpoint)
    download_checkpoints.main(words)


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_needed_arrives_whole_and_nothing_else(hub, tmp_path):
    download(tmp_path, hub.endpoint, "vocos")
    wanted = {"vocos/config.yaml", "vocos/pytorch_model.bin", "vocos/downloads.json"}
    assert names_in(tmp_path) == wanted
    assert (tmp_path / "vocos" / "pytorch_model.bin").read_bytes() == WEIGHTS


def test_the_notes_say_where_each_file_came_from(hub, tmp_path):
    download(tmp_path, hub.endpoint, "vocos")
    notes = json.loads((tmp_path / "vocos" / "downloads.json").read_text(encoding="utf-8"))
    assert notes["files"]["pytorch_model.bin"] == {
        "origin": "charactr/vocos-mel-24khz",
        "commit": COMMIT,
        "size": len(WEIGHTS),
        "digest": f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}",
        "licence": "mit",
    }


def test_a_second_run_fetches_nothing(hub, tmp_path, capsys):
    download(tmp_path, hub.endpoint, "vocos")
    before = len(hub.ranges)
    download(tmp_path, hub.endpoint, "vocos")
    assert len(hub.ranges) == before
    assert "0 files fetched, 2 were there" in capsys.readouterr().out


def test_a_broken_download_leaves_no_half_file_and_goes_on_where_it_stopped(hub, tmp_path):
    hub.breaks_after = 100_000
    with pytest.raises(UserError, match="broke off"):
        download(tmp_path, hub.endpoint, "vocos")
    assert not (tmp_path / "vocos" / "pytorch_model.bin").exists()
    hub.is_down = False
    hub.ranges.clear()
    download(tmp_path, hub.endpoint, "vocos")
    assert hub.ranges == ["bytes=100000-"]
    assert (tmp_path / "vocos" / "pytorch_model.bin").read_bytes() == WEIGHTS
    assert len(names_in(tmp_path)) == 3  # no parts, no locks


def test_a_part_of_another_revision_is_not_built_upon(hub, tmp_path):
    hub.breaks_after = 100_000
    with pytest.raises(UserError, match="broke off"):
        download(tmp_path, hub.endpoint, "vocos")
    hub.is_down = False
    newer = WEIGHTS[::-1]
    hub.repos["charactr/vocos-mel-24khz"]["pytorch_model.bin"] = newer
    download(tmp_path, hub.endpoint, "vocos")
    assert (tmp_path / "vocos" / "pytorch_model.bin").read_bytes() == newer
    assert len(names_in(tmp_path)) == 3


@pytest.mark.parametrize("name", ["pytorch_model.bin", "config.yaml"])
def test_bytes_that_arrive_changed_are_refused(hub, tmp_path, name):
    hub.spoils = {name}
    with pytest.raises(UserError, match=rf"damaged.*{name}"):
        download(tmp_path, hub.endpoint, "vocos")
    assert not any(name in found for found in names_in(tmp_path))


def test_another_file_at_the_place_stays_unless_overwriting(hub, tmp_path):
    mine = tmp_path / "vocos" / "pytorch_model.bin"
    mine.parent.mkdir()
    mine.write_bytes(b"my own")
    with pytest.raises(UserError, match=r"not the published files: pytorch_model\.bin"):
        download(tmp_path, hub.endpoint, "vocos")
    assert mine.read_bytes() == b"my own"
    download(tmp_path, hub.endpoint, "vocos", "--overwrite")
    assert mine.read_bytes() == WEIGHTS


def test_a_dry_run_tells_names_sizes_and_licences_and_writes_nothing(hub, tmp_path, capsys):
    download(tmp_path / "new", hub.endpoint, "vocos", "--dry-run")
    said = capsys.readouterr().out
    assert "300.0 kB  to fetch  pytorch_model.bin" in said
    assert "MIT; the hub says mit" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "whisper"])
def test_without_a_network_a_dry_run_still_tells_the_plan(family, tmp_path, capsys):
    download(tmp_path / "new", NOBODY, family, "--dry-run")
    said = capsys.readouterr().out
    assert all(source.repo in said for source in FAMILIES[family].sources)
    assert "unknown" in said
    assert not (tmp_path / "new").exists()


def test_without_a_network_one_line_says_which_files_to_place_where(tmp_path):
    with pytest.raises(UserError) as told:
        download(tmp_path / "new", NOBODY, "indextts2")
    line = str(told.value)
    assert "\n" not in line
    assert "gpt.pth, s2mel.pth" in line
    assert f"of IndexTeam/IndexTTS-2 into {tmp_path / 'new' / 'indextts2'}/" in line
    assert "campplus_cn_common.bin of funasr/campplus into" in line
    assert not (tmp_path / "new").exists()


def test_without_a_network_a_complete_folder_is_enough(tmp_path, capsys):
    for name in ("config.yaml", "pytorch_model.bin"):
        (tmp_path / "vocos").mkdir(exist_ok=True)
        (tmp_path / "vocos" / name).touch()
    download(tmp_path, NOBODY, "vocos")
    assert "0 files fetched, 2 were there" in capsys.readouterr().out


def test_a_licence_that_is_not_open_is_shown_before_the_first_byte(kani, tmp_path, capsys):
    download(tmp_path, kani.endpoint, "kani")
    said = capsys.readouterr().out
    assert 0 <= said.index("LFM Open License") < said.index("config.json")


def test_patterns_take_the_same_folder_only(kani, tmp_path):
    download(tmp_path, kani.endpoint, "kani")
    found = {Path(name).name for name in names_in(tmp_path)}
    assert found == {"downloads.json", "codec.nemo", "chat_template.jinja", "config.json",
                     "model.safetensors", "tokenizer.json"}  # fmt: skip
    assert not list(tmp_path.rglob("onnx"))


def test_a_repository_that_lacks_a_file_is_named(kani, tmp_path):
    del kani.repos["nineninesix/kani-tts-400m-0.3-pt"]["model.safetensors"]
    with pytest.raises(UserError, match=r"has no \*\.safetensors \[nineninesix/kani"):
        download(tmp_path, kani.endpoint, "kani")


def test_files_can_be_left_out(hub, tmp_path):
    download(tmp_path, hub.endpoint, "vocos", "--skip", "*.bin")
    assert names_in(tmp_path) == {"vocos/config.yaml", "vocos/downloads.json"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["higgs"], "no such repository.*bosonai"),
        (["vocos", "--revision", "v9"], "no revision 'v9'"),
        (["whisper", "--whisper-model", "huge"], "no Whisper model 'huge'"),
    ],
)
def test_what_the_hub_has_not_is_one_clear_line(hub, tmp_path, words, told):
    with pytest.raises(UserError, match=told):
        download(tmp_path, hub.endpoint, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["indextts"], "did you mean indextts2"),
        ([], "say what to download"),
        (["vocos", "kani", "--revision", "main"], "--revision needs one system"),
        (["vocos", "--dry-run", "--verify"], "contradict"),
    ],
)
def test_wrong_usage_is_explained(tmp_path, capsys, words, told):
    with pytest.raises(SystemExit, match="2"):
        download(tmp_path, NOBODY, *words)
    assert told in capsys.readouterr().err


def test_a_mirror_needs_an_address(tmp_path):
    with pytest.raises(UserError, match="no address"):
        download(tmp_path, "mirror", "vocos")


def test_verify_tells_whole_changed_and_missing_files_apart(kani, tmp_path, capsys):
    folder = tmp_path / "kani" / "kani-tts-400m-0.3-pt"
    download(tmp_path, kani.endpoint, "kani")
    download(tmp_path, kani.endpoint, "kani", "--verify")
    assert capsys.readouterr().out.count("as published") == 5
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"2 files are wrong: \S+config\.json, \S+model\.safeten"):
        download(tmp_path, kani.endpoint, "kani", "--verify")
    said = capsys.readouterr().out
    assert "config.json: missing" in said
    assert "model.safetensors: the checksum differs" in said
    download(tmp_path, kani.endpoint, "kani", "--overwrite")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_without_a_network_verify_compares_with_the_notes(kani, tmp_path, capsys):
    download(tmp_path, kani.endpoint, "kani")
    download(tmp_path, NOBODY, "kani", "--verify")
    said = capsys.readouterr().out
    assert said.count("as published") == 4
    assert "the tensors inside weren't looked at" in said
    (tmp_path / "kani" / "nemo-nano-codec-22khz-0.6kbps-12.5fps" / "codec.nemo").unlink()
    with pytest.raises(UserError, match=r"1 files are wrong: \S+nemo"):
        download(tmp_path, NOBODY, "kani", "--verify")


def test_verify_looks_into_a_vocos(tmp_path, capsys):
    folder = write_vocos(tmp_path / "vocos")
    download(tmp_path, NOBODY, "vocos", "--verify")
    assert "every tensor of this Vocos is there" in capsys.readouterr().out
    (folder / "pytorch_model.bin").write_bytes(WEIGHTS)
    with pytest.raises(UserError, match="1 files are wrong: vocos"):
        download(tmp_path, NOBODY, "vocos", "--verify")


def test_the_second_speaker_encoder_arrives_where_the_evaluation_reads_it(hub, tmp_path, capsys):
    tiny = write_wavlm(tmp_path / "tiny")
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    hub.repos["microsoft/wavlm-base-plus-sv"] = files | {"README.md": b"not needed"}
    download(tmp_path, hub.endpoint, "wavlm")
    folder = tmp_path / "wavlm"
    assert load_xvector(folder).name.startswith("wavlm-")
    download(tmp_path, hub.endpoint, "wavlm", "--verify")
    assert f"--speaker-encoder {folder}" in capsys.readouterr().out
    assert names_in(folder) == {*files, "downloads.json"}


def test_a_whisper_model_arrives_under_its_name_with_its_checksum(hub, tmp_path, monkeypatch):
    hub.repos["openai/whisper"] = {"base.pt": WEIGHTS}
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    url = f"{hub.endpoint}/openai/whisper/resolve/{digest}/base.pt"
    monkeypatch.setattr("whisper._MODELS", {"base": url})
    download(tmp_path, NOBODY, "whisper")
    assert (tmp_path / "whisper" / "base.pt").read_bytes() == WEIGHTS
    hub.spoils = {"base.pt"}
    with pytest.raises(UserError, match="damaged"):
        download(tmp_path / "other", NOBODY, "whisper")
    assert not list((tmp_path / "other" / "whisper").iterdir())


def test_the_systems_are_listed_with_their_licences(capsys):
    download_checkpoints.main(["--list"])
    said = capsys.readouterr().out
    assert "IndexTeam/IndexTTS-2: bilibili Model Use License" in said
    assert all(name in said for name in FAMILIES)
