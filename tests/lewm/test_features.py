"""Features on disk: what goes in comes out, quickly, and broken files say so."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from lewm.features import (
    FEATURES_FILE,
    Features,
    FeatureStore,
    describe,
    read_header,
    read_shard,
    write_shard,
)
from lewm.model import LOG_MEL_FLOOR
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.mel import MelRecipe

RECIPE = MelRecipe()


def clip(index: int, *, speaker: str = "ozzy", level: float = -4.0) -> Features:
    random = np.random.default_rng(index)
    mel = random.normal(level, 3, (RECIPE.n_mels, 20 + index % 7)).astype(np.float16)
    return Features(f"clip{index}", mel, f"text {index} é", speaker, "en", f"rec{index // 2}.wav")


def write_folder(folder: Path, clips: list[Features], n_per_shard: int = 40) -> Path:
    folder.mkdir(exist_ok=True)
    shards = []
    for start in range(0, len(clips), n_per_shard):
        shards.append(folder / f"shard-{start}.arrow")
        write_shard(shards[-1], clips[start : start + n_per_shard], RECIPE)
    write_json(folder / FEATURES_FILE, describe(shards, {}))
    return folder


def assert_same(a: Features, b: Features) -> None:
    np.testing.assert_array_equal(a.mel, b.mel)
    assert a.mel.dtype == b.mel.dtype == np.float16
    assert (a.id, a.text, a.speaker, a.language, a.recording) == (
        *(b.id, b.text, b.speaker, b.language, b.recording),
    )


def test_every_clip_comes_back_in_order_across_shards(tmp_path):
    clips = [clip(i) for i in range(100)]
    store = FeatureStore(write_folder(tmp_path / "p", clips))
    assert len(store) == 100
    for index in (0, 31, 32, 39, 40, 99, -1):
        assert_same(store[index], clips[index])
    assert store.n_frames.tolist() == [c.mel.shape[1] for c in clips]
    assert store.n_bytes.tolist() == [len(c.text.encode()) for c in clips]
    assert store.texts == [c.text for c in clips]
    assert store.recordings == [c.recording for c in clips]
    assert store.recipe == RECIPE
    with pytest.raises(IndexError):
        store[100]


def test_a_shard_can_be_read_in_part(tmp_path):
    clips = [clip(i) for i in range(50)]
    write_shard(tmp_path / "s.arrow", clips, RECIPE, {"made by": "a test"})
    assert read_header(tmp_path / "s.arrow")["notes"] == {"made by": "a test"}
    for read, written in zip(read_shard(tmp_path / "s.arrow", 30, 35), clips[30:35], strict=True):
        assert_same(read, written)
    assert len(read_shard(tmp_path / "s.arrow")) == 50


def test_mean_and_deviation_are_those_of_the_clamped_mels(tmp_path):
    clips = [clip(i, level=-8.0) for i in range(30)]
    store = FeatureStore(write_folder(tmp_path / "p", clips, n_per_shard=7))
    values = np.concatenate([c.mel.astype(np.float64).ravel() for c in clips]).clip(LOG_MEL_FLOOR)
    assert store.mel_mean == pytest.approx(values.mean(), abs=1e-9)
    assert store.mel_std == pytest.approx(values.std(), abs=1e-9)
    assert store.mel_clamp == LOG_MEL_FLOOR  # the network clamps at the same value


def test_several_speakers_are_one_store_with_joint_statistics(tmp_path):
    ozzy = [clip(i) for i in range(10)]
    anna = [clip(i, speaker="anna", level=-2.0) for i in range(20, 45)]
    folders = [write_folder(tmp_path / "a", ozzy), write_folder(tmp_path / "b", anna)]
    store = FeatureStore(*folders)
    assert len(store) == 35
    assert store.speakers == ["ozzy"] * 10 + ["anna"] * 25
    assert_same(store[20], anna[10])
    values = np.concatenate([c.mel.astype(np.float64).ravel() for c in ozzy + anna]).clip(
        LOG_MEL_FLOOR
    )
    assert store.mel_mean == pytest.approx(values.mean(), abs=1e-6)
    assert store.mel_std == pytest.approx(values.std(), abs=1e-6)
    assert store.fingerprint != FeatureStore(folders[0]).fingerprint


def test_speakers_of_different_recipes_do_not_mix(tmp_path):
    first = write_folder(tmp_path / "a", [clip(1)])
    second = write_folder(tmp_path / "b", [clip(2)])
    info = read_json(second / FEATURES_FILE)
    write_json(second / FEATURES_FILE, {**info, "recipe": {**info["recipe"], "f_max": 8000.0}})
    with pytest.raises(UserError, match="another mel recipe"):
        FeatureStore(first, second)


def test_the_fingerprint_changes_with_a_mel_or_a_text_and_with_nothing_else(tmp_path):
    clips = [clip(i) for i in range(6)]
    louder = [*clips[:-1], Features(**{**vars(clips[-1]), "mel": clips[-1].mel + np.float16(1)})]
    other = [*clips[:-1], Features(**{**vars(clips[-1]), "text": "something else"})]
    prints = [
        FeatureStore(write_folder(tmp_path / name, content)).fingerprint
        for name, content in (("a", clips), ("b", clips), ("c", louder), ("d", other))
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_store_travels_to_another_process_small_and_whole(tmp_path):
    store = FeatureStore(write_folder(tmp_path / "p", [clip(i) for i in range(100)]))
    assert store.texts[3] == "text 3 é"
    data = pickle.dumps(store)
    assert len(data) < 2_000
    assert_same(pickle.loads(data)[77], store[77])


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:100])


def lose_the_end(shard: Path) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) * 3 // 4])


def overwrite(shard: Path) -> None:
    shard.write_bytes(b"something else entirely, and long enough to be read as a header")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (truncate, "broken"),
        (lose_the_end, "broken"),
        (overwrite, "broken"),
        (Path.unlink, "missing"),
    ],
)
def test_a_spoilt_shard_is_named_with_what_to_do(tmp_path, spoil, what):
    folder = write_folder(tmp_path / "p", [clip(i) for i in range(70)], n_per_shard=100)
    spoil(folder / "shard-0.arrow")
    with pytest.raises(UserError, match=f"{what} feature file|feature file is {what}") as caught:
        FeatureStore(folder)
    assert "shard-0.arrow" in str(caught.value)
    assert "lewm_preprocess" in str(caught.value)


def test_a_folder_without_features_says_how_to_make_them(tmp_path):
    with pytest.raises(UserError, match="no features here") as caught:
        FeatureStore(tmp_path)
    assert "lewm_preprocess" in str(caught.value)


def test_a_mel_of_the_wrong_height_is_refused_and_leaves_no_file(tmp_path):
    wrong = Features("a", np.zeros((80, 5), np.float16), "t", "s", "en", "r")
    with pytest.raises(ValueError, match="80 mel bands"):
        write_shard(tmp_path / "s.arrow", [wrong], RECIPE)
    assert not list(tmp_path.iterdir())
