"""What the doctor says about a machine, made fit or unfit on purpose."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path

import pytest
import torch

from ttscommon import doctor
from ttscommon.catalogue import FAMILIES

VOCOS = FAMILIES["vocos"]


def installed(monkeypatch, requires: list[str], python: str = ">=3.11") -> None:
    """Let the installed project ask for `requires`."""
    about = {"Requires-Python": python}
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: about)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)


def statuses(findings) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}


def test_packages_within_their_ranges_are_counted(monkeypatch):
    installed(monkeypatch, ["torch>=2", "numpy>=1"])
    found = list(doctor.check_versions("voxtune"))
    assert [f.status for f in found] == ["ok", "ok"]
    assert found[1].what == "2 within the supported ranges"


def test_a_version_outside_the_range_is_wrong_and_both_are_named(monkeypatch):
    installed(monkeypatch, ["torch==1.0.*"])
    *_, finding = doctor.check_versions("voxtune")
    assert (finding.name, finding.status, finding.fix) == ("torch", "wrong", "make setup")
    assert torch.__version__.partition("+")[0] in finding.what
    assert "==1.0.*" in finding.what


def test_a_missing_package_is_wrong_and_a_missing_extra_a_note(monkeypatch):
    installed(monkeypatch, ["no-such-package>=1", "no-such-extra>=2; extra == 'loud'"])
    found = {finding.name: finding for finding in doctor.check_versions("voxtune")}
    assert found["no-such-package"].status == "wrong"
    assert found["no-such-extra"].status == "note"
    assert found["no-such-extra"].fix == "uv sync --inexact --extra loud"


def test_what_another_system_needs_is_passed_over(monkeypatch):
    installed(monkeypatch, ["no-such-package>=1; sys_platform == 'amiga'"])
    assert statuses(doctor.check_versions("voxtune")) == {"python": "ok", "packages": "ok"}


def test_another_python_than_the_supported_is_wrong(monkeypatch):
    installed(monkeypatch, [], python=">=4")
    assert next(doctor.check_versions("voxtune")).status == "wrong"


def test_a_project_that_is_not_installed_is_told_what_to_do():
    (finding,) = doctor.check_versions("no-such-project")
    assert (finding.status, finding.fix) == ("wrong", "make setup")


def test_what_was_added_after_the_setup_is_looked_for(monkeypatch, tmp_path):
    installed(monkeypatch, [])
    declared = tmp_path / "pyproject.toml"
    declared.write_text('[project]\ndependencies = ["no-such-package>=1"]\n', encoding="utf-8")
    assert statuses(doctor.check_versions("voxtune", declared))["no-such-package"] == "wrong"


def test_the_cpu_multiplies_in_every_precision():
    found = {finding.name: finding for finding in doctor.check_devices()}
    assert found["cpu"].status == "ok"
    assert "fp32, bf16, fp16 work" in found["cpu"].what


@pytest.mark.gpu
def test_the_gpu_multiplies_in_every_precision():
    assert {f.name: f.status for f in doctor.check_devices()}["cuda:0"] == "ok"


def test_a_device_that_cannot_compute_says_why():
    trouble = doctor.matmul_trouble(torch.device("meta"), "fp32")
    assert trouble is not None
    assert "meta" in trouble


def test_a_wrong_product_is_found_out(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: self * 1.5)
    assert doctor.matmul_trouble(torch.device("cpu"), "fp32") == "off by 50%"


def test_room_is_told_for_folders_that_are_yet_to_be_made(tmp_path):
    place = tmp_path / "new" / "folder"
    found = {finding.name: finding for finding in doctor.check_room([place])}
    assert "may be written to" in found[str(place)].what
    assert "GB free" in found["memory"].what
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [1, 2])
def test_memory_in_a_container_is_what_its_limit_leaves(monkeypatch, tmp_path, version):
    folder = tmp_path / "memory" if version == 1 else tmp_path
    folder.mkdir(exist_ok=True)
    limit, used = "memory.max", "memory.current"
    cached = "inactive_file 200000000\n"
    if version == 1:
        limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        cached = "inactive_file 1\ntotal_inactive_file 200000000\n"
    (folder / limit).write_text("4000000000\n", encoding="ascii")
    (folder / used).write_text("3700000000\n", encoding="ascii")
    (folder / "memory.stat").write_text(f"anon 3500000000\n{cached}", encoding="ascii")
    plenty = type("Memory", (), {"total": 64 * 10**9, "available": 32 * 10**9})
    monkeypatch.setattr("psutil.virtual_memory", lambda: plenty)
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    (finding,) = doctor.check_room([])
    assert (finding.status, finding.what) == ("wrong", "0.5 of 4.0 GB free")


def test_memory_without_a_limit_is_the_machines(monkeypatch, tmp_path):
    for name, content in (("memory.max", "max"), ("memory.current", "1"), ("memory.stat", "")):
        (tmp_path / name).write_text(f"{content}\n", encoding="ascii")
    plenty = type("Memory", (), {"total": 64 * 10**9, "available": 32 * 10**9})
    monkeypatch.setattr("psutil.virtual_memory", lambda: plenty)
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    (finding,) = doctor.check_room([])
    assert finding.what == "32.0 of 64.0 GB free"


def test_a_full_disk_is_wrong(monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    assert statuses(doctor.check_room([tmp_path]))[str(tmp_path)] == "wrong"


def test_a_folder_that_cannot_be_written_to_is_wrong(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    place = tmp_path / "file" / "folder"
    *_, finding = doctor.check_room([place])
    assert (finding.name, finding.status) == (str(place), "wrong")


def test_programs_that_are_absent_say_what_goes_without_them(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = {finding.name: finding for finding in doctor.check_programs()}
    assert {f.status for f in found.values()} == {"note"}
    assert "--text-form ipa" in found["espeak-ng"].what
    assert found["ffmpeg"].fix == "install the package ffmpeg"


@pytest.fixture
def vocos(tmp_path) -> Path:
    """A downloaded folder with its notes."""
    contents = {"config.yaml": b"a: 1\n", "pytorch_model.bin": b"weights"}
    notes = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        notes[name] = {"size": len(content), "digest": digest}
    record = {"format": "ttscommon.downloads", "version": 1, "files": notes}
    (tmp_path / "downloads.json").write_text(json.dumps(record), encoding="utf-8")
    return tmp_path


def test_a_checkpoint_as_downloaded_is_whole(vocos):
    assert doctor.check_checkpoint(VOCOS, vocos).status == "ok"
    assert "as published" in doctor.check_checkpoint(VOCOS, vocos, reads=True).what


def test_a_checkpoint_that_was_never_fetched_is_only_noted(tmp_path):
    finding = doctor.check_checkpoint(VOCOS, tmp_path / "vocos")
    assert finding.status == "note"
    assert finding.fix == "python tools/download_checkpoints.py vocos"


def test_half_a_checkpoint_is_wrong(vocos):
    (vocos / "pytorch_model.bin").unlink()
    finding = doctor.check_checkpoint(VOCOS, vocos)
    assert (finding.status, finding.what) == ("wrong", "pytorch_model.bin: missing")
    assert finding.fix == "python tools/download_checkpoints.py vocos"
    optional = doctor.check_checkpoint(VOCOS, vocos, optional=("pytorch*",))
    assert optional.status == "note"


def test_a_truncated_file_is_wrong_and_to_be_replaced(vocos):
    (vocos / "pytorch_model.bin").write_bytes(b"weigh")
    finding = doctor.check_checkpoint(VOCOS, vocos)
    assert "5 bytes instead of 7" in finding.what
    assert finding.fix == "python tools/download_checkpoints.py vocos --overwrite"


def test_a_flipped_bit_shows_only_when_everything_is_read(vocos):
    (vocos / "pytorch_model.bin").write_bytes(b"weightz")
    assert doctor.check_checkpoint(VOCOS, vocos).status == "ok"
    assert doctor.check_checkpoint(VOCOS, vocos, reads=True).status == "wrong"


def test_broken_notes_of_a_download_are_a_finding(vocos):
    (vocos / "downloads.json").write_text("{", encoding="utf-8")
    assert "broken JSON" in doctor.check_checkpoint(VOCOS, vocos).what
