"""Training the language model: what learns, what stays, what is saved, and how it goes on."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.config import GptConfig
from indextts.dataset import PairedPlan, read_clips
from indextts.gpt.model import UnifiedVoice, VoiceBatch, VoiceOutput
from indextts.lora import adapter_effect, attach
from indextts.probing import with_codes
from indextts.tasks import LoraTask, VoiceStage, VoiceTask
from indextts.train import Training, stage_memory, train_lora
from indextts.train_config import PARTS, FullTrainConfig, LoraTrainConfig
from tests.indextts.gpt_training import SIZES, moved, prepared, train
from ttscommon import checkpoints, training
from ttscommon.batching import BatchKey
from ttscommon.errors import UserError
from ttscommon.files import read_json

FORWARD = UnifiedVoice.forward


def sees_all(gpt: UnifiedVoice, batch: VoiceBatch) -> VoiceOutput:
    output = FORWARD(gpt, batch)
    whole = output.mel_logits.mean(dim=1, keepdim=True)
    return dataclasses.replace(output, mel_logits=output.mel_logits + whole)


@pytest.fixture
def job(tmp_path, miniature):
    return prepared(tmp_path, miniature)


def base_of(job) -> UnifiedVoice:
    return weights.load_gpt(job.folder.gpt, job.folder.config.gpt)


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    state = folder / "runs" / "gpt" / "state"
    return load_file(state / "model.safetensors") | load_file(state / "optimizer.safetensors")


def check_same_bits(one: Path, other: Path) -> None:
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("checkpointing", [True, False])
def test_every_adapter_tensor_gets_a_gradient_and_the_base_keeps_its_bits(
    job, monkeypatch, checkpointing
):
    stages, seen = [], set()

    def note(name: str, grad: torch.Tensor) -> None:
        if grad.any():
            seen.add(name)

    class Watched(LoraTask):
        def parameter_groups(self):
            stages.append(self.module)
            for name, parameter in self.module.named_parameters():
                if parameter.requires_grad:
                    parameter.register_hook(lambda grad, name=name: note(name, grad))
            return super().parameter_groups()

    monkeypatch.setattr("indextts.train.LoraTask", Watched)
    train(job, LoraTrainConfig.tiny(), gradient_checkpointing=checkpointing)
    adapters = {n for n, _ in stages[0].named_parameters() if ".lora_" in n}
    assert seen == adapters
    assert len(adapters) == 2 * (2 * 4 + 2)  # A and B; four layers of each of two blocks, two heads
    assert weights.fingerprint(stages[0].gpt) == weights.fingerprint(base_of(job))


def test_adapters_on_the_encoders_of_speaker_and_mood_learn_with_conditions_computed_anew(job):
    report = train(job, LoraTrainConfig.tiny(lora_conditioning=True, crop_prompts=True))
    names = [*load_file(report.best / "adapter_model.safetensors")]
    assert any("emo_perceiver_encoder" in name for name in names)
    assert any("conditioning_encoder.encoders.1.self_attn.linear_pos" in name for name in names)


def test_adapters_on_encoders_are_refused_with_stored_conditions(job):
    config = LoraTrainConfig.tiny(lora_target_modules=("emovec_layer", "mel_head"))
    with pytest.raises(UserError, match="learn nothing from stored conditions"):
        train(job, config)


def test_what_is_saved_loads_with_plain_peft_and_changes_what_is_said(job):
    report = train(job, LoraTrainConfig.tiny(), learning_rate=0.01)
    loaded = peft.PeftModel.from_pretrained(base_of(job), str(report.best))  # type: ignore[arg-type]
    ours = base_of(job)
    attach(ours, report.best)
    batch = PairedPlan(read_clips(job.validation), batch_size=2).load
    voiced = batch(PairedPlan(read_clips(job.validation), batch_size=2).epoch(0)[0]).voiced()
    with torch.no_grad():
        assert torch.equal(loaded.get_base_model()(voiced).mel_logits, ours(voiced).mel_logits)
    assert adapter_effect(ours) > 0
    assert read_json(report.best / "base.json")["fingerprint"] == weights.fingerprint(ours)
    told = read_json(report.best / "training_metadata.json")
    assert told["n_clips"] == len(SIZES)
    assert set(told["metrics"]) == {"loss", "text", "mel"}


def test_full_training_trains_all_that_is_asked_for_and_inference_loads_it(job):
    config = FullTrainConfig.tiny(train_parts=tuple(PARTS), ema_decay=0.9, learning_rate=1e-3)
    report = train(job, config)
    assert sorted(p.name for p in job.output.folder.iterdir() if p.is_file()) == [
        *("best_model.json", "best_model.pth", "latest.json", "latest.pth"),
    ]
    trained, base = weights.load_gpt(report.best, job.folder.config.gpt), base_of(job)
    same = [n for n, p in trained.named_parameters() if torch.equal(p, base.get_parameter(n))]
    assert same == []
    assert "optimizer" not in torch.load(report.best, weights_only=True)


@pytest.mark.parametrize("config", [LoraTrainConfig.tiny(), FullTrainConfig.tiny()])
def test_without_a_text_loss_all_that_is_trained_learns(job, config):
    assert train(job, config, text_loss_weight=0.0).final.exists()


def test_an_adapter_that_only_the_text_loss_could_train_is_refused_without_it(job):
    with pytest.raises(UserError, match="text_head learns nothing"):
        train(job, LoraTrainConfig.tiny(lora_target_modules=("text_head",), text_loss_weight=0.0))


def test_new_weights_never_stand_beside_the_words_about_old_ones(job, monkeypatch):
    config = FullTrainConfig.tiny(max_steps=1)
    train(job, config)

    def dies(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("indextts.tasks.write_json", dies)
    with pytest.raises(OSError, match="No space left"):
        train(dataclasses.replace(job, overwrite=True), config, learning_rate=0.1)
    assert not job.output.best_model.with_suffix(".json").exists()


def test_frozen_parts_keep_their_bits(job):
    report = train(job, FullTrainConfig.tiny(train_parts=("heads", "embeddings"),
                                             freeze_embeddings=True))  # fmt: skip
    trained, base = weights.load_gpt(report.best, job.folder.config.gpt), base_of(job)
    changed = {
        n.split(".")[0]
        for n, p in trained.named_parameters()
        if not torch.equal(p, base.get_parameter(n))
    }
    assert changed == {"text_head", "mel_head"}


def test_features_of_another_base_are_refused(job):
    info = job.train[0].parent / "dataset_info.json"
    info.write_text(json.dumps({**read_json(info), "base": "0" * 64}), encoding="utf-8")
    with pytest.raises(UserError, match="computed with another base"):
        train(job, LoraTrainConfig.tiny())
    assert not job.output.folder.exists()


def test_a_data_set_of_one_clip_is_learned_with_a_warning(tmp_path, miniature, caplog):
    job = prepared(tmp_path, miniature, [(4, 9)])
    report = train(job, LoraTrainConfig.tiny(max_steps=2))
    assert report.final.exists()
    assert "1 clips prompt themselves, their speaker has no other: clip_000" in caplog.text


def test_an_empty_manifest_is_refused(job):
    job.validation[0].write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"no clips in the manifest.*val_manifest\.jsonl"):
        train(job, LoraTrainConfig.tiny())
    assert not job.output.folder.exists()


def test_clips_that_are_all_too_long_are_refused(tmp_path, miniature):
    most = CheckpointFolder.open(miniature).config.gpt.max_mel_tokens
    job = prepared(tmp_path, miniature, [(4, most + 1), (3, most + 9)])
    with pytest.raises(UserError, match=r"2 clips are longer than .* cut the recordings"):
        train(job, LoraTrainConfig.tiny())
    job = prepared(tmp_path / "budget", miniature)
    with pytest.raises(UserError, match=r"takes \d+ tokens, a batch may have 30.*--token-budget"):
        train(job, LoraTrainConfig.tiny(token_budget=30))
    assert not job.output.folder.exists()


def test_a_changed_manifest_is_refused_on_resume_with_what_differs(job):
    train(job, LoraTrainConfig.tiny())
    lines = job.train[0].read_text(encoding="utf-8").splitlines()
    job.train[0].write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"task_settings\.clips\.ozzy/clip_000: .* -> None.*data set"
    ):
        train(job, LoraTrainConfig.tiny())
    train(dataclasses.replace(job, overwrite=True), LoraTrainConfig.tiny())


def test_changed_settings_are_refused_but_reports_may_change(job):
    train(job, LoraTrainConfig.tiny())
    with pytest.raises(UserError, match=r"task_settings\.lora_rank: 4 -> 2"):
        train(job, LoraTrainConfig.tiny(lora_rank=2))
    train(job, LoraTrainConfig.tiny(log_interval=7, gradient_checkpointing=False))


def test_a_disk_that_fills_up_while_saving_keeps_the_last_resume_point(job, monkeypatch):
    config = LoraTrainConfig.tiny(save_interval=1)
    state, write, writes = job.output.run("gpt") / "state", checkpoints.save_file, []

    def until_full(tensors, path, *args, **options):
        writes.append(path)
        if len(writes) == 4:  # the optimizer's of the second resume point
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path, *args, **options)

    monkeypatch.setattr(checkpoints, "save_file", until_full)
    with pytest.raises(OSError, match="No space left"):  # one line at the command line
        train(job, config)
    monkeypatch.setattr(checkpoints, "save_file", write)
    assert sorted(path.name for path in state.parent.iterdir()) == ["state", "unfinished"]
    assert read_json(state / "state.json")["step"] == 1
    train(job, config)
    other = moved(job, "other")
    train(other, config)
    check_same_bits(job.output.folder, other.output.folder)


def test_a_disk_that_is_almost_full_is_told_before_anything_is_written(job, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"disk almost full: \d+ MB needed, 0 MB free"):
        train(job, LoraTrainConfig.tiny())
    assert not list(job.output.folder.rglob("*.safetensors"))


def test_ctrl_c_saves_and_says_how_to_go_on(job, monkeypatch):
    evaluate = VoiceTask.evaluate

    def interrupted(task, module, monitor, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(task, module, monitor, step)

    monkeypatch.setattr(VoiceTask, "evaluate", interrupted)
    config = LoraTrainConfig.tiny(val_interval=1)
    command = "python tools/train_gpt_lora.py --speaker ozzy"
    with pytest.raises(KeyboardInterrupt, match=f"saved at step 2. Go on: {command}"):
        train(dataclasses.replace(job, resume_command=command), config)
    monkeypatch.setattr(VoiceTask, "evaluate", evaluate)
    train(job, config)
    other = moved(job, "other")
    train(other, config)
    check_same_bits(job.output.folder, other.output.folder)


def test_a_finished_voice_is_not_replaced_unasked(job):
    (job.output.best_checkpoint).mkdir(parents=True)
    with pytest.raises(UserError, match="finished voice is here"):
        train_lora(job, LoraTrainConfig.tiny())


@pytest.mark.parametrize("left", ["best_checkpoint", "best_audio"])
def test_what_is_left_of_a_tidied_voice_is_not_replaced_unasked(job, left):
    train(job, LoraTrainConfig.tiny(max_steps=1))
    output = job.output
    output.best_checkpoint.rename(output.folder / left)
    shutil.rmtree(output.folder / "runs")
    shutil.rmtree(output.final_checkpoint)
    before = (output.folder / left / "adapter_model.safetensors").read_bytes()
    with pytest.raises(UserError, match="finished voice is here"):
        train(job, LoraTrainConfig.tiny(max_steps=1, learning_rate=0.1))
    assert (output.folder / left / "adapter_model.safetensors").read_bytes() == before


def test_a_run_that_died_before_it_saved_begins_anew_over_what_it_left(job, monkeypatch):
    def dies(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training, "save_state", dies)
    with pytest.raises(OSError, match="No space left"):
        train(job, LoraTrainConfig.tiny(val_interval=1))
    assert job.output.best_checkpoint.exists()
    assert not (job.output.run("gpt") / "state").exists()
    monkeypatch.undo()
    assert train(job, LoraTrainConfig.tiny(val_interval=1)).final.exists()
    assert [path.name for path in job.output.run("gpt").iterdir()] == ["state"]


def test_what_spoke_best_stays_where_training_is_refused(job, monkeypatch):
    kept = job.output.best_audio / "adapter_model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    monkeypatch.setattr(UnifiedVoice, "forward", sees_all)
    with pytest.raises(UserError, match="causality: FAILED"):
        train(dataclasses.replace(job, overwrite=True), LoraTrainConfig.tiny())
    assert kept.read_bytes() == b"mine"


def test_clips_of_one_name_of_two_speakers_are_told_apart(tmp_path, miniature, caplog):
    one = prepared(tmp_path / "one", miniature)
    two = prepared(tmp_path / "two", miniature)
    for manifest in (*two.train, *two.validation):
        text = manifest.read_text(encoding="utf-8").replace("ozzy", "anna")
        manifest.write_text(text.replace('"recording": "held', '"recording": "clip'), "utf-8")
    both = dataclasses.replace(
        one, train=[*one.train, *two.train], validation=[*one.validation, *two.validation[:0]]
    )
    report = train(both, LoraTrainConfig.tiny(max_steps=1))
    assert read_json(report.best / "training_metadata.json")["n_clips"] == 2 * len(SIZES)
    apart = dataclasses.replace(one, validation=two.validation)
    caplog.clear()
    train(moved(apart, "apart"), LoraTrainConfig.tiny(max_steps=1))
    assert "the validation loss flatters" not in caplog.text


def test_the_step_that_is_told_is_the_largest_there_can_be(job):
    config = LoraTrainConfig.tiny(on_the_fly=True, crop_prompts=True)
    made = Training(job, config)
    made.gpt.requires_grad_(True)
    stage = VoiceStage(made.gpt, config, trains_conditions=False)
    told = made.longest_step(stage, has_average=False)
    stage.train()
    met = [
        stage_memory(stage, made.plan.load(key), "no", False)
        for epoch in range(4)
        for key in made.plan.epoch(epoch)
    ]
    assert told.total >= max(one.total for one in met)


def test_random_codes_come_to_the_device_of_the_batch():
    """They are drawn on the CPU; "meta" stands for a GPU."""
    config = GptConfig.tiny()
    with torch.device("meta"):
        gpt = UnifiedVoice(config)
        voiced = VoiceBatch(
            text=torch.zeros(2, 3, dtype=torch.long),
            text_lengths=torch.zeros(2, dtype=torch.long),
            codes=torch.zeros(2, 5, dtype=torch.long),
            code_lengths=torch.zeros(2, dtype=torch.long),
            speaker=torch.zeros(2, config.condition_num_latent, config.model_dim),
            emotion=torch.zeros(2, config.model_dim),
        )
    output = gpt(with_codes(voiced, torch.zeros(2, 4, dtype=torch.long)))
    assert output.mel_logits.device.type == "meta"


def test_the_start_tells_counts_memory_and_probe(job, caplog):
    caplog.set_level("INFO")
    train(job, LoraTrainConfig.tiny(lora_target_modules=("gpt.h.*.attn.c_attn", "mel_head")))
    assert "gpt.h.*.attn.c_attn" in caplog.text
    assert "a step with the longest batch takes" in caplog.text
    assert "causality: passed" in caplog.text
    assert "next token: can't tell" in caplog.text


def test_a_leaking_model_is_not_trained(job, monkeypatch):
    monkeypatch.setattr(UnifiedVoice, "forward", sees_all)
    with pytest.raises(UserError, match="causality: FAILED"):
        train(job, LoraTrainConfig.tiny())


def test_a_text_token_counts_alike_with_many_codes_and_with_few(job):
    """Weighed by their codes, as the loop does, two batches are what one of both is."""
    config = LoraTrainConfig.tiny()
    made = Training(job, config)
    stage = VoiceStage(made.gpt, config, trains_conditions=False).eval()
    stage.codes_a_token = 3.0
    clips = sorted(range(len(SIZES)), key=lambda i: SIZES[i][1] / SIZES[i][0])
    text = torch.tensor(2.0)

    def share(items: list[int]) -> float:
        batch = made.plan.load(BatchKey(0, 0, tuple(items)))
        return float(stage.weighed_text(text, batch)) * batch.n_targets

    assert share(clips[:2]) + share(clips[2:]) == pytest.approx(share(clips))
    n_few, n_many = (SIZES[clips[i]][0] + 1 for i in (0, -1))
    assert share(clips[:1]) / n_few == pytest.approx(share(clips[-1:]) / n_many)
