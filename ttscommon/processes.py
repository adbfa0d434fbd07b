"""Scripts of this clone as processes: what a chain of them runs, one after the other.

They begin with the same seconds of imports. Where the next one waits with these done while one
works, they cost no time on two cores; each still has a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = 130
IS_POSIX = os.name == "posix"
STOPPING = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
MOST_BYTES = 1 << 16  # read at once
MOST_FILES = 16
WAIT = "import sys; sys.path[0] = {!r}; from ttscommon.processes import wait; wait()"


class Relay:
    """Runs scripts one after the other; the process of the next gets ready while one works.

    Args:
        imports: modules that it gets ready with; none: there is no such process
    """

    def __init__(self, imports: Sequence[str]):
        self._imports = imports if IS_POSIX else ()  # it takes sockets that carry files
        self._next: Standby | None = None

    def run(self, words: Sequence[str], keep_open: Sequence[int], is_more: bool) -> int:
        """As `run_script`.

        Args:
            is_more: whether another script follows
        """
        ready, self._next = self._next, None
        if is_more and self._imports:
            self._next = Standby(self._imports)
        process = ready.become(_whole(words), keep_open) if ready else None
        return _awaited(process or _started(words, keep_open))

    def close(self) -> None:
        if self._next is not None:
            self._next.dismiss()


def run_script(words: Sequence[str], *, keep_open: Sequence[int] = ()) -> int:
    """Run a script of this clone with its flags, and wait for it.

    Signals to stop are handed on, once each, as Ctrl-C: the script saves and leaves in its own way.

    Args:
        keep_open: file descriptors that the script holds as long as it lives

    Returns:
        its exit code; the negative number of a signal that ended it
    """
    return _awaited(_started(words, keep_open))


def _whole(words: Sequence[str]) -> list[str]:
    return [str(ROOT / words[0]), *words[1:]]


def _started(words: Sequence[str], keep_open: Sequence[int]) -> subprocess.Popen:
    # In a group of its own, else the terminal would send it the signal, too.
    options: dict[str, Any] = {}
    if IS_POSIX:
        options = {"process_group": 0, "pass_fds": keep_open, "preexec_fn": _listen_to_stops}
    return subprocess.Popen([sys.executable, *_whole(words)], **options)


def _awaited(process: subprocess.Popen) -> int:
    asked = False

    def hand_on(*_: Any) -> None:
        nonlocal asked
        asked = True
        process.send_signal(signal.SIGINT)

    with _handled(hand_on):
        code = process.wait()
    return INTERRUPTED if asked and code else code


def _listen_to_stops() -> None:
    """In the stage: a shell's background jobs ignore Ctrl-C, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[None]:
    """Outside the main thread signals aren't ours to handle; those that are ignored stay so."""
    old = {}
    try:
        for number in STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:
                old[number] = signal.signal(number, handler)
    except ValueError:
        pass
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


class Standby:
    """A process in a group of its own that waits to become a script; 0.7 GB, with torch imported.

    Args:
        imports: modules to have; one that isn't installed is left out
    """

    def __init__(self, imports: Sequence[str]):
        self._socket, theirs = socket.socketpair()
        told = [str(theirs.fileno()), *imports]
        command = [sys.executable, "-c", WAIT.format(str(ROOT)), *told]
        with theirs:
            self._process = subprocess.Popen(command, process_group=0, pass_fds=[theirs.fileno()])

    def become(self, words: Sequence[str], keep_open: Sequence[int]) -> subprocess.Popen | None:
        """Let it go on as `python words...`, which `words[0]` names by its whole path.

        Args:
            keep_open: file descriptors that the script holds as long as it lives

        Returns:
            the process, or nothing if it has died in the meantime
        """
        try:
            with self._socket:
                if keep_open:
                    socket.send_fds(self._socket, [b" "], list(keep_open))
                self._socket.sendall(json.dumps(list(words)).encode())
        except OSError:
            self.dismiss()
            return None
        return self._process

    def dismiss(self) -> None:
        """It isn't needed."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def wait() -> None:
    """What the process does: `sys.argv` has the socket's number and the modules to import."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs would ignore it
    number, *imports = sys.argv[1:]
    for name in imports:
        with contextlib.suppress(ImportError):  # the script says what it misses
            importlib.import_module(name)
    with socket.socket(fileno=int(number)) as own:
        message, files, _, _ = socket.recv_fds(own, MOST_BYTES, MOST_FILES)
        while more := own.recv(MOST_BYTES):
            message += more
    if not message:  # whoever started it has ended
        return
    for file in files:
        os.set_inheritable(file, True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words = json.loads(message)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")
