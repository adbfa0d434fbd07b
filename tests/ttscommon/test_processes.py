"""Scripts as processes: signals, exit codes, and what waits with its imports done."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ttscommon.errors import UserError
from ttscommon.processes import Relay, run_script
from ttscommon.stages import Chain, Stage

ROOT = Path(__file__).resolve().parents[2]


def script(folder: Path, body: str) -> str:
    path = folder / "tool.py"
    path.write_text(textwrap.dedent(body))
    return str(path)


def test_a_script_is_run_and_its_exit_code_told(tmp_path):
    tool = script(tmp_path, "import sys; sys.exit(int(sys.argv[1]))")
    assert run_script([tool, "7"]) == 7


STUBBORN = """
    import os, pathlib, sys, time
    here = pathlib.Path(sys.argv[1])
    (here / "pid").write_text(str(os.getpid()))
    (here / "ready").touch()
    stops = 0
    try:
        while True:
            time.sleep(0.02)
    except KeyboardInterrupt:
        try:
            time.sleep(0.3)  # a second signal would end this
            (here / "saved").touch()
        finally:
            sys.exit(130)
"""


def until(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def ignore_ctrl_c() -> None:
    """As a shell does to what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def heed_ctrl_c() -> None:
    """As in a terminal, also where these tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "before"),
    [(signal.SIGINT, heed_ctrl_c), (signal.SIGTERM, heed_ctrl_c), (signal.SIGTERM, ignore_ctrl_c)],
)
@pytest.mark.parametrize("has_waited", [False, True])
def test_a_signal_reaches_the_stage_once_and_it_may_save(tmp_path, number, before, has_waited):
    tool = script(tmp_path, STUBBORN)
    (tmp_path / "first.py").touch()
    code = f"""
import sys
from ttscommon.processes import Relay
relay = Relay(["colorsys"])
if {has_waited}:
    relay.run([{str(tmp_path / "first.py")!r}], (), is_more=True)
sys.exit(relay.run([{tool!r}, {str(tmp_path)!r}], (), is_more=False))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, preexec_fn=before)
    until(tmp_path / "ready")
    process.send_signal(number)
    assert process.wait() == 130
    assert (tmp_path / "saved").exists()


TELLING = """
    import json, os, pathlib, sys
    told = ["colorsys" in sys.modules, sys.argv[1:], sys.path[0], __name__, os.getppid()]
    pathlib.Path(sys.argv[1]).write_text(json.dumps(told))
    sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def relay():
    with contextlib.closing(Relay(["colorsys", "no_such_module"])) as found:
        yield found


def test_the_next_script_has_its_imports_behind_it(relay, tmp_path):
    tool, told = script(tmp_path, TELLING), []
    for number in range(2):
        flags = [str(tmp_path / f"{number}.json"), str(number + 7)]
        assert relay.run([tool, *flags], (), is_more=number == 0) == number + 7
        told.append(json.loads((tmp_path / f"{number}.json").read_text()))
    rest = [str(tmp_path), "__main__", os.getpid()]
    assert told[0] == [False, [str(tmp_path / "0.json"), "7"], *rest]
    assert told[1] == [True, [str(tmp_path / "1.json"), "8"], *rest]


def test_a_chain_lets_the_next_stage_get_ready_and_none_for_nothing(tmp_path, monkeypatch):
    tool, begun = script(tmp_path, TELLING), []
    stages = [
        Stage(name=name, script=tool, flags=[str(tmp_path / f"{name}.json"), "0"])
        for name in ("first", "second")
    ]
    chain = Chain(stages, tmp_path / "pipeline.json", resume="again", imports=["colorsys"])
    chain.run()
    has_imports = [json.loads((tmp_path / f"{stage.name}.json").read_text())[0] for stage in stages]
    assert has_imports == [False, True]
    monkeypatch.setattr("ttscommon.processes.Standby", begun.append)
    chain.run(start="second")
    assert begun == []


def test_a_script_is_run_if_the_process_that_waited_has_died(relay, tmp_path):
    tool = script(tmp_path, "import sys; sys.exit(int(sys.argv[1]))")
    assert relay.run([tool, "0"], (), is_more=True) == 0
    relay._next._process.kill()
    relay._next._process.wait()
    assert relay.run([tool, "5"], (), is_more=True) == 5
    waits = relay._next._process
    relay.close()
    assert waits.returncode is not None


def test_two_runs_at_once_are_refused_even_if_the_first_was_killed(tmp_path):
    tool = script(tmp_path, STUBBORN)
    (tmp_path / "first.py").touch()
    code = f"""
import pathlib
from ttscommon.stages import Chain, Stage
folder = pathlib.Path({str(tmp_path)!r})
first = Stage(name="first", script={str(tmp_path / "first.py")!r})
stage = Stage(name="long", script={tool!r}, flags=[str(folder)])
state = folder / "pipeline.json"
Chain([first, stage], state, resume="again", imports=["colorsys"]).run()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until(tmp_path / "ready")
    process.kill()
    process.wait()
    second = Chain([], tmp_path / "pipeline.json", resume="again")
    with pytest.raises(UserError, match="a stage that one left behind"):
        second.run()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGINT)
    until(tmp_path / "saved")
