"""Training a manner of speaking: what learns, what stays, what is told, and how it goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch
import torch._dynamo  # the optimizer loads it at its first step
from safetensors.torch import load_file

from indextts import weights
from indextts.gpt.model import UnifiedVoice
from indextts.inference import Synthesizer
from indextts.lora import attach
from indextts.pattern_clips import read_pattern_clips, read_pattern_info
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_dataset import PatternPlan
from indextts.pattern_embeddings import PatternEmbedding, require_fit
from indextts.pattern_tasks import (
    PATTERN_FILE,
    PatternStage,
    PatternTask,
    pattern_scores,
    read_as,
)
from tests.indextts.pattern_training import SILENCE, elsewhere, prepared, train
from tests.indextts.speakers import write_recording
from ttscommon import lora, training
from ttscommon.batching import BatchKey
from ttscommon.errors import UserError
from ttscommon.files import read_json

STAGES = {"pattern": ("pattern",), "lora": ("pattern", "lora"), "joint": ("joint",)}


@pytest.fixture
def job(tmp_path, miniature):
    return prepared(tmp_path, miniature)


def base_of(job) -> UnifiedVoice:
    return weights.load_gpt(job.folder.gpt, job.folder.config.gpt)


def plan_of(job, **options) -> PatternPlan:
    return PatternPlan(read_pattern_clips(job.train), batch_size=3, **options)


def stage_of(job, **changes) -> PatternStage:
    """A stage with a pattern that has an effect, and an adapter that has one."""
    gpt = base_of(job)
    torch.manual_seed(0)
    lora.inject(gpt, lora.find_targets(gpt, ["gpt.h.*.attn.c_attn"]), rank=2, alpha=4.0)
    config = PatternTrainConfig.tiny(gradient_checkpointing=False, **changes)
    pattern = PatternEmbedding(gpt.config.model_dim, 2, initialization="reference")
    info = read_pattern_info(job.train[0].parent, gpt.config.number_mel_codes)
    silence = torch.from_numpy(info.silence(gpt.config.number_mel_codes))
    return PatternStage(gpt, pattern, config, silence).eval()


def batch_of(job, **options):
    return plan_of(job, **options).load(BatchKey(0, 0, (0, 1, 2)))


def state_of(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    state = folder / "runs" / stage / "state"
    return load_file(state / "model.safetensors") | load_file(state / "optimizer.safetensors")


def check_same_bits(one: Path, other: Path, stages: tuple[str, ...]) -> None:
    for stage in stages:
        first, second = state_of(one, stage), state_of(other, stage)
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []


def watched_names(monkeypatch) -> dict[str, set[str]]:
    """Names of all tensors that get a gradient, by the stage that trains."""
    seen: dict[str, set[str]] = {}
    check = training._Loop._check_gradients

    def watched(loop, *, last):
        module = loop.accelerator.unwrap_model(loop.model)
        names = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        seen.setdefault(loop.config.title, set()).update(names)
        check(loop, last=last)

    monkeypatch.setattr(training._Loop, "_check_gradients", watched)
    return seen


def test_the_pattern_learns_alone_then_the_adapter_around_it(job, monkeypatch):
    seen = watched_names(monkeypatch)
    report = train(job)
    assert {name.partition(".")[0] for name in seen["pattern"]} == {"pattern"}
    assert len(seen["pattern"]) == 8  # tokens, scale, and three layers' weights and biases
    assert all(".lora_" in name for name in seen["lora"])
    assert sorted(path.name for path in report.best.iterdir()) == [
        *("lora", "pattern_embedding.pt", "training_metadata.json"),
    ]
    alone = PatternEmbedding.load(
        job.output.run("pattern") / "best_checkpoint/pattern_embedding.pt"
    )
    last = PatternEmbedding.load(report.best / PATTERN_FILE)
    assert all(
        torch.equal(a, b) for a, b in zip(alone.parameters(), last.parameters(), strict=True)
    )
    gpt = base_of(job)
    require_fit(last, gpt)
    assert attach(gpt, report.best / "lora").n_layers > 0
    assert last.origin.silence_codes == SILENCE
    assert last.origin.rates == {"pauses_per_minute": 40.0, "fillers_per_minute": 20.0}
    assert last.origin.tokenizer == "t" * 64
    assert last.origin.training["step"] == report.best_step


@pytest.mark.parametrize("mode", ["add", "prepend", "replace_first"])
def test_both_learn_together_in_every_mode(mode, job, monkeypatch):
    seen = watched_names(monkeypatch)
    report = train(job, joint=True, injection_mode=mode)
    assert {name.partition(".")[0] for name in seen["joint"]} == {"pattern", "gpt"}
    assert PatternEmbedding.load(report.best / PATTERN_FILE).injection_mode == mode
    assert (report.best / "lora").is_dir()


@pytest.mark.parametrize("loss", ["decisions", "reference"])
def test_the_pattern_alone_is_published_whatever_it_learns_by(loss, job):
    report = train(job, lora_rank=0, loss=loss, initialization="reference")
    assert report.best == job.output.best_checkpoint
    assert not (report.best / "lora").exists()
    assert PatternEmbedding.load(report.best / PATTERN_FILE).origin.base
    train(job, lora_rank=0, loss=loss, initialization="reference")  # finished: nothing is done


def test_training_starts_from_the_base_and_leaves_it_alone(job, caplog):
    caplog.set_level("INFO")
    train(job, lora_rank=0)
    assert "before training the pattern moves the first code's logits by 0" in caplog.text
    assert "causality: passed" in caplog.text
    assert "no pauses" not in caplog.text


def test_scores_are_told_with_the_pattern_without_it_and_shuffled(job):
    report = train(job)
    losses = {"loss", "text", "ce", "pause", "missing", "false", "rate", "events"}
    expected = {f"{manner}{name}" for manner in ("", "off/", "shuffled/") for name in losses}
    assert set(report.metrics) == {*expected, "off/drift", "norm_ratio"}
    assert read_json(report.best / "training_metadata.json")["metrics"].keys() <= expected | {
        *("off/drift", "norm_ratio")
    }


def test_without_the_pattern_an_untrained_adapter_is_at_the_base(job):
    stage = stage_of(job)
    assert pattern_scores(stage, plan_of(job, shuffle=False))["off/drift"] == pytest.approx(0)


def test_clips_read_without_the_pattern_pull_the_adapter_to_the_base(job):
    stage = stage_of(job)
    for name, parameter in stage.gpt.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    every, none = batch_of(job, off_share=1.0), batch_of(job)
    assert (every.off, none.off) == ((0, 1, 2), ())
    losses = stage(every)
    assert losses.parts["off"] > 1e-4
    assert "off" not in stage(none).parts
    losses.parts["off"].backward()
    reached = {n for n, p in stage.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached
    assert all(".lora_" in name for name in reached)
    with lora.switched_off(stage.gpt), torch.no_grad():
        assert float(stage.drift(every, every.off)) == pytest.approx(0, abs=1e-6)


def test_a_pattern_that_is_off_is_the_base(job):
    stage, batch = stage_of(job), batch_of(job)
    assert batch.speaker is not None
    with read_as(stage, "off"):
        assert torch.equal(stage.voiced(batch).speaker, batch.speaker)
    with read_as(stage, "shuffled"):
        shuffled = stage.voiced(batch).speaker
    on = stage.voiced(batch).speaker
    assert not torch.equal(on, shuffled)
    assert stage.manner == "on"


def test_prompts_vary_over_clips_and_other_speakers(job):
    others = read_pattern_clips(job.validation)
    plan = plan_of(job, others=others, other_share=0.5)
    prompts = {plan.prompt_of(item, epoch).id for item in range(6) for epoch in range(8)}
    assert {name.partition("_")[0] for name in prompts} == {"clip", "held"}
    assert len(prompts) == 8
    own = plan_of(job, others=others, other_share=0.0)
    assert {own.prompt_of(0, epoch).id[:4] for epoch in range(8)} == {"clip"}
    with pytest.raises(UserError, match="the speaker's own and another's"):
        plan_of(job, others=read_pattern_clips(job.train))


def test_a_batch_tells_where_pauses_and_events_are(job):
    batch = batch_of(job)
    assert batch.pauses[0].nonzero().flatten().tolist() == [4, 5, 6, 7, 12, 13, 14]
    assert batch.events[0].nonzero().flatten().tolist() == [9, 10, 11]
    assert batch.decisions[0, [4, 8, 12, 15]].tolist() == [4, 4, 3, 3]
    assert batch.decisions[0].count_nonzero() == 4
    assert not batch.pauses[0, batch.code_lengths[0] :].any()


@pytest.mark.parametrize(
    ("share", "timbre", "is_taught"),
    [(0.0, "hidden", True), (1.0, "hidden", False), (1.0, "taught", True)],
)
def test_which_code_of_speech_comes_is_learned_from_the_speaker_s_own_prompts(
    share, timbre, is_taught, job
):
    stage = stage_of(job, strange_timbre=timbre)
    batch = batch_of(job, others=read_pattern_clips(job.validation), other_share=share)
    assert batch.strange == ((0, 1, 2) if share else ())
    output = stage.gpt(stage.voiced(batch))
    another = output.mel_targets.clone()
    another[0, 1] = next(code for code in range(6, 20) if code != another[0, 1])
    assert not {int(output.mel_targets[0, 1]), int(another[0, 1])} & set(SILENCE)
    before = stage.losses(output, batch)
    after = stage.losses(dataclasses.replace(output, mel_targets=another), batch)
    assert (before.total != after.total) == is_taught
    for name in ("pause", "missing", "false", "rate"):
        assert before.parts[name] > 0


def test_where_another_prompts_silence_and_the_end_are_learned(job):
    stage = stage_of(job)
    batch = batch_of(job, others=read_pattern_clips(job.validation), other_share=1.0)
    output = stage.gpt(stage.voiced(batch))
    output.mel_logits.retain_grad()
    stage.losses(output, batch).parts["ce"].backward()
    slope, shares = output.mel_logits.grad[0], output.mel_logits.detach()[0].softmax(-1)
    assert (slope[: int(batch.code_lengths[0]) + 1].abs().sum(-1) > 0).all()
    speech = [code for code in range(slope.shape[1]) if code not in SILENCE]
    pull = slope[1, speech] / shares[1, speech]  # of -log P(speech): all in proportion
    assert torch.allclose(pull, pull[:1].expand_as(pull), rtol=1e-3)
    assert (slope[1, list(SILENCE)] > 0).all()
    assert (pull < 0).all()


def test_training_lowers_what_it_should(job):
    """Six clips can be learned by heart; what is better then is owed to the pattern."""
    report = train(job, lora_rank=0, max_steps=60, pattern_lr=0.03, pattern_tokens=6,
                   val_interval=60, batch_size=6)  # fmt: skip
    metrics = report.metrics
    for name in ("pause", "missing"):
        assert metrics[name] < 0.9 * metrics[f"off/{name}"]
        assert metrics[name] < metrics[f"shuffled/{name}"]


def test_samples_are_spoken_with_the_pattern(job, monkeypatch):
    for clip in (*read_pattern_clips(job.train), *read_pattern_clips(job.validation)):
        assert clip.audio_path is not None
        write_recording(clip.audio_path)
    heard = []
    conditioning = Synthesizer.conditioning

    def watched(synthesizer, request):
        manner, synthesizer.manner = synthesizer.manner, None
        plain = conditioning(synthesizer, request)
        synthesizer.manner = manner
        told = conditioning(synthesizer, request)
        heard.append(float((told.speaker - plain.speaker).abs().max()))
        return told

    monkeypatch.setattr(Synthesizer, "conditioning", watched)
    train(job, lora_rank=0, val_interval=4, sample_interval=4, n_samples=1, pattern_lr=0.01)
    assert heard
    assert min(heard) > 0


@pytest.mark.parametrize("way", ["lora", pytest.param("joint", marks=pytest.mark.slow)])
def test_a_stopped_run_ends_in_the_same_bits(way, job, monkeypatch):
    """Stopped in each stage, and gone on with by the same command."""
    settings = {"joint": way == "joint", "val_interval": 2}
    whole = elsewhere(job, "whole")
    train(whole, **settings)
    for stage in STAGES[way]:
        evaluate = PatternTask.evaluate

        def interrupted(task, module, monitor, step, at=stage, evaluate=evaluate):
            if step == 2 and bool(lora.layers(module.gpt)) == (at != "pattern"):
                os.kill(os.getpid(), signal.SIGINT)
            return evaluate(task, module, monitor, step)

        monkeypatch.setattr(PatternTask, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"saved at step 3\. Go on: again"):
            train(dataclasses.replace(job, resume_command="again"), **settings)
        monkeypatch.setattr(PatternTask, "evaluate", evaluate)
    train(job, **settings)
    check_same_bits(job.output.folder, whole.output.folder, STAGES[way])


def test_changed_settings_are_refused_but_those_of_the_adapter_leave_the_pattern_alone(job):
    train(job)
    with pytest.raises(UserError, match=r"task_settings\.pause_weight: 2\.0 -> 1\.0"):
        train(job, pause_weight=1.0)
    again = dataclasses.replace(job, overwrite=True)
    before = state_of(job.output.folder, "pattern")
    train(again, lora_rank=2)
    after = state_of(job.output.folder, "pattern")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_changed_features_are_refused_on_resume(job):
    train(job, lora_rank=0)
    path = next((job.train[0].parent / "features").glob("clip_000_pattern.json"))
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**told, "pauses": [[4, 8]]}), encoding="utf-8")
    with pytest.raises(UserError, match="the data set"):
        train(job, lora_rank=0)


def test_a_finished_voice_is_not_replaced_unasked(job):
    job.output.best_checkpoint.mkdir(parents=True)
    with pytest.raises(UserError, match="finished voice is here"):
        train(job)
    assert not job.output.run("pattern").exists()


def test_an_adapter_is_not_lost_to_a_pattern_alone(job):
    report = train(job, lora_rank=0)
    (report.best / "lora").mkdir()
    with pytest.raises(UserError, match="finished voice is here"):
        train(job, lora_rank=0)


def test_a_speaker_without_pauses_is_told_of_and_trained(tmp_path, miniature, caplog):
    job = prepared(tmp_path, miniature, pauses=[])
    path = job.train[0].parent / "pattern_info.json"
    path.write_text(json.dumps({"silence_codes": []}), encoding="utf-8")
    report = train(job, lora_rank=0)
    assert "no pauses in 6 clips" in caplog.text
    assert "no code is silence" in caplog.text
    assert "pause" not in report.metrics
    assert report.metrics["ce"] > 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "pattern_info.json").unlink(), "nothing is known here of pauses"),
        (
            lambda folder: (folder / "pattern_info.json").write_text('{"silence_codes": [9999]}'),
            "silence codes from 9999",
        ),
        (
            lambda folder: (folder / "pattern_info.json").write_text('{"share": {}}'),
            "no pattern info",
        ),
        (
            lambda folder: (folder / "features" / "clip_001_pattern.json").unlink(),
            "nothing is known of how clip_001 is spoken",
        ),
        (
            lambda folder: (folder / "features" / "clip_001_pattern.json").write_text("{"),
            "broken JSON",
        ),
    ],
)
def test_data_of_no_use_are_refused_before_anything_is_written(spoil, message, job):
    spoil(job.train[0].parent)
    with pytest.raises(UserError, match=message):
        train(job)
    assert not job.output.folder.exists()


def test_features_of_other_codes_are_refused(job):
    path = job.train[0].parent / "features" / "clip_001_pattern.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**told, "frames": 99}), encoding="utf-8")
    with pytest.raises(UserError, match="features of 99 frames, clip_001 has 24 codes"):
        train(job)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint": True, "lora_rank": 0}, "--no-lora trains none"),
        ({"pattern_tokens": 0}, "pattern_tokens must be 1 or more"),
        ({"pattern_lr": float("nan")}, "pattern_lr must be above 0"),
        ({"pause_weight": float("nan")}, "pause_weight must be 0 or more"),
        ({"off_share": 1.5}, "off_share must be from 0 to 1"),
        ({"lora_conditioning": True}, "would change who speaks"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        PatternTrainConfig.tiny(**changes)
