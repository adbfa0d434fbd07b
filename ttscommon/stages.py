"""One command for a chain of tools: what is finished is skipped, what fails says how to go on.

Each stage is a tool, run as a process of its own with the very command line that is shown: all of
its memory, a GPU's too, is free when it ends; a crash in a native library ends that stage only; and
whoever wants one step to go otherwise copies its command. The price is the import of torch, some
seconds a stage, which a second core pays while the stage before works (`ttscommon.processes`).

A stage is finished if it ended well, its outputs are there, and neither its command nor the content
of anything it read has changed since. So a changed recording repeats the stages that depend on it,
and those after them only if what they read came out differently.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.ledger import weights_key
from ttscommon.processes import INTERRUPTED, IS_POSIX, STOPPING, Relay
from ttscommon.sound_progress import clock

log = logging.getLogger(__name__)

FORMAT, VERSION = "ttscommon.stages", 1
ABSENT = "absent"
MOST_CHANGES = 3  # named in a line


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One tool of the chain.

    Attributes:
        name: what `--from` calls it
        script: the tool, relative to this clone
        flags: settle what comes out
        machine_flags: where and how fast; to change them repeats nothing
        inputs: files and folders that it reads; one that isn't there is as good as empty
        weights: large files of models that it reads; known by samples of their content
        outputs: what is there when it has ended well
        again: flags that let it replace what it made of something else
        own: outputs that nobody but this stage writes; changed ones aren't replaced unasked
        good_exits: exit codes that mean it has done its work
    """

    name: str
    script: str
    flags: Sequence[str] = ()
    machine_flags: Sequence[str] = ()
    inputs: Sequence[Path] = ()
    weights: Sequence[Path] = ()
    outputs: Sequence[Path] = ()
    again: Sequence[str] = ()
    own: Sequence[Path] = ()
    good_exits: Sequence[int] = (0,)


@dataclass(frozen=True)
class Step:
    """What is to be done about a stage.

    Attributes:
        words: script and flags
        why: the reason to run it; None if it is finished
        is_again: whether it may replace what is there
    """

    stage: Stage
    words: tuple[str, ...]
    why: str | None
    is_again: bool = False

    @property
    def command(self) -> str:
        """To be typed in a clone."""
        return shlex.join(["python", *self.words])


@dataclass(frozen=True)
class Done:
    """How a stage ended, now or in an earlier run."""

    name: str
    seconds: float
    exit_code: int
    was_run: bool


Runner = Callable[[Sequence[str]], int]


class Chain:
    """Stages one after the other, and what is known about them.

    Args:
        state: the file in which that is kept
        resume: the command that goes on after a stop
        imports: modules that take most stages long to import
        runner: what runs script and flags and gives the exit code, for tests
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        state: Path,
        *,
        resume: str,
        imports: Sequence[str] = (),
        runner: Runner | None = None,
    ):
        self.stages, self.resume, self._imports = list(stages), resume, imports
        self._path, self._runner = state, runner
        kept = read_json(state, format=FORMAT) if state.is_file() else {}
        self._records: dict[str, dict[str, Any]] = dict(kept.get("stages", {}))
        self._digests = _Digests(kept.get("digests", {}))

    def plan(self, start: str | None = None) -> list[Step]:
        """What a run would do, as far as that is known before its first stage has run.

        Raises:
            UserError: as `run` does
        """
        steps: list[Step] = []
        made: dict[Path, str] = {}
        for stage, is_forced in self._wanted(start):
            step = self._step(stage, is_forced=is_forced)
            before = next((made[path] for path in stage.inputs if path in made), None)
            if step.why is None and before is not None:
                words = self._words(stage, again=True)
                step = Step(stage, words, f"if {before} makes a change", is_again=True)
            if step.why is not None:
                made |= dict.fromkeys(stage.outputs, stage.name)
            steps.append(step)
        return steps

    def run(self, start: str | None = None) -> list[Done]:
        """Run every stage that isn't finished.

        Args:
            start: the stage to begin with, whether it is finished or not

        Raises:
            UserError: if a stage fails, `start` is no stage or those before it aren't finished, or
                another run is at work
            KeyboardInterrupt: if a stage was stopped; with the command to go on with
        """
        with _only_one(self._path.with_suffix(".lock")) as lock:
            wanted, relay = self._wanted(start), Relay(self._imports)
            done: list[Done] = []
            with contextlib.closing(relay):
                for number, (stage, is_forced) in enumerate(wanted, 1):
                    rest = wanted[number:]
                    runner = self._runner or (
                        lambda words, rest=rest: relay.run(words, lock, self._goes_on(rest))
                    )
                    done.append(self._do(stage, is_forced, runner))
            return done

    def _goes_on(self, rest: Sequence[tuple[Stage, bool]]) -> bool:
        """Whether one of these is to be run, as far as that is known."""
        return any(self._step(stage, is_forced=forced).why is not None for stage, forced in rest)

    def _do(self, stage: Stage, is_forced: bool, runner: Runner) -> Done:
        number = f"{self.stages.index(stage) + 1}/{len(self.stages)} {stage.name}"
        step = self._step(stage, is_forced=is_forced)
        if step.why is None:
            record = self._records[stage.name]
            log.info("%s  finished before, in %s", number, clock(record["seconds"]))
            return Done(stage.name, record["seconds"], record["exit_code"], was_run=False)
        if step.is_again and not is_forced:
            self._require_own(stage)
        log.info("%s  %s\n  %s", number, step.why, step.command)
        record = {"made_from": self._made_from(stage), "state": "started", "command": step.command}
        self._keep(stage, record | {"again": step.is_again})
        began = time.monotonic()
        code = runner(step.words)
        seconds = time.monotonic() - began
        self._require_success(stage, code, is_again=step.is_again)
        made = {str(path): self._digests.of(path) for path in stage.own}
        ended = {"state": "done", "seconds": round(seconds, 2), "exit_code": code, "made": made}
        self._keep(stage, record | ended)
        log.info("%s  done in %s", number, clock(seconds))
        return Done(stage.name, seconds, code, was_run=True)

    def _require_own(self, stage: Stage) -> None:
        """Refuse to replace what somebody made anew since this stage ended well."""
        record = self._records[stage.name]
        made = record.get("made", {}) if record["state"] == "done" else {}
        for path in stage.own:
            if path.exists() and made.get(str(path)) not in (None, self._digests.of(path)):
                raise UserError(
                    f"stage '{stage.name}' would replace what was changed since it made it",
                    where=path,
                    fix=f"move it away, or replace it: {self.resume} --from {stage.name}",
                )

    def _require_success(self, stage: Stage, code: int, *, is_again: bool) -> None:
        if code == INTERRUPTED or -code in STOPPING:
            raise KeyboardInterrupt(f"stopped in stage '{stage.name}'; go on with: {self.resume}")
        if code not in stage.good_exits:
            how = f"failed with exit code {code}, see above"
            if code < 0:
                name = signal.Signals(-code).name
                how = f"was ended by {name}"
                how += ", mostly too little memory" if name == "SIGKILL" else ""
            fix = f"then go on with: {self.resume}"
            if stage.again and not is_again:
                fix += f"; with --from {stage.name} it replaces what is there"
            raise UserError(f"stage '{stage.name}' {how}", fix=fix)
        if gone := [path for path in stage.outputs if not path.exists()]:
            raise UserError(f"stage '{stage.name}' didn't leave what it should", where=gone[0])

    def _wanted(self, start: str | None) -> list[tuple[Stage, bool]]:
        """The stages to look at, and whether they are to be run in any case."""
        names = [stage.name for stage in self.stages]
        if start is None:
            return [(stage, False) for stage in self.stages]
        if start not in names:
            raise UserError(f"no stage '{start}'", fix=f"--from one of {', '.join(names)}")
        first = names.index(start)
        for stage in self.stages[:first]:
            if gone := [path for path in stage.outputs if not path.exists()]:
                what = f"nothing to start '{start}' from: '{stage.name}' has not been run"
                raise UserError(what, where=gone[0], fix=self.resume)
        return [(stage, True) for stage in self.stages[first:]]

    def _step(self, stage: Stage, *, is_forced: bool) -> Step:
        record = self._records.get(stage.name)
        if record is None:
            words = self._words(stage, again=is_forced)
            return Step(stage, words, "not done yet", is_again=is_forced)
        changed = _changes(record["made_from"], self._made_from(stage))
        gone = [path for path in stage.outputs if not path.exists()]
        is_done = record["state"] == "done"
        why = None
        if changed:
            more = len(changed) - MOST_CHANGES
            why = "changed: " + ", ".join(changed[:MOST_CHANGES])
            why += f" and {more} more" if more > 0 else ""
        elif not is_done:
            why = "was stopped"
        elif gone:
            why = f"{gone[0].name} is gone"
        elif is_forced:
            why = "asked for"
        # What was to be replaced when it was stopped is still there, and to be replaced.
        is_again = bool(why) and any((changed, is_done, is_forced, record.get("again")))
        return Step(stage, self._words(stage, again=is_again), why, is_again=is_again)

    def _words(self, stage: Stage, *, again: bool = False) -> tuple[str, ...]:
        more = stage.again if again else ()
        return (stage.script, *stage.flags, *more, *stage.machine_flags)

    def _made_from(self, stage: Stage) -> dict[str, str]:
        inputs = {str(path): self._digests.of(path) for path in stage.inputs}
        inputs |= {str(path): weights_key(path) for path in stage.weights if path.is_file()}
        return {"settings": shlex.join([stage.script, *stage.flags]), **inputs}

    def _keep(self, stage: Stage, record: dict[str, Any]) -> None:
        self._records[stage.name] = record
        kept = {"stages": self._records, "digests": self._digests.known}
        write_json(self._path, {"format": FORMAT, "version": VERSION, **kept})


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[tuple[int, ...]]:
    """Refuse a second run at the same time; a stage that outlived a killed run counts as one.

    Yields:
        file descriptors that a stage is to hold (on Windows none: there only runs count)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    what = "another run, or a stage that one left behind, is at work here"
    refused = UserError(what, where=path, fix="wait for its end, or stop it")
    if not IS_POSIX:
        try:
            with FileLock(path, timeout=0):
                yield ()
        except Timeout as error:
            raise refused from error
        return
    import fcntl  # isn't everywhere

    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise refused from error
        yield (file.fileno(),)


class _Digests:
    """Contents of files and folders; a file of the same size and time is read once only."""

    def __init__(self, known: Mapping[str, Sequence[Any]]):
        self.known = dict(known)

    def of(self, path: Path) -> str:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and _counts(p, path))
            rows = [f"{p.relative_to(path).as_posix()} {self._of_file(p)}" for p in found]
            return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:24]
        return self._of_file(path) if path.is_file() else ABSENT

    def _of_file(self, path: Path) -> str:
        status = path.stat()
        size, moment = status.st_size, status.st_mtime_ns
        kept = self.known.get(str(path), ())
        if list(kept[:2]) == [size, moment]:
            return str(kept[2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:24]
        self.known[str(path)] = [size, moment, digest]
        return digest


def _counts(path: Path, folder: Path) -> bool:
    """Hidden files are drafts."""
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = sorted({*old, *new}, key=lambda name: (name != "settings", name))
    return [name for name in names if old.get(name, ABSENT) != new.get(name, ABSENT)]
