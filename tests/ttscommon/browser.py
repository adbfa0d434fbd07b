"""A headless Chromium that tests talk to over a pipe, in its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = shutil.which("chromium")
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-pipe",
    "--mute-audio",
]
SWITCHES += ["--autoplay-policy=no-user-gesture-required", "--no-first-run", "--disable-sync"]
SWITCHES += [
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]
PATIENCE = 30.0  # seconds
CODES = {" ": "Space", "Backspace": "Backspace", "ArrowDown": "ArrowDown", "ArrowUp": "ArrowUp"}


class Browser:
    """One page of a running Chromium.

    Attributes:
        requests: addresses that pages asked for, embedded ones left out
        complaints: what the page's script complained of
    """

    def __init__(self, to_browser: int, from_browser: int):
        self._out, self._in, self._buffer, self._count = to_browser, from_browser, b"", 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until the expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < until, f"never: {expression}"

    def press(self, key: str) -> None:
        """One stroke on the keyboard."""
        names = {"key": key, "code": CODES.get(key, f"Key{key.upper()}")}
        self.call("Input.dispatchKeyEvent", type="keyDown", **names)
        self.call("Input.dispatchKeyEvent", type="keyUp", **names)

    def click(self, selector: str) -> None:
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def photograph(self, path: Path, *, width: int, height: int, is_dark: bool = False) -> None:
        """Write a picture of the page as a screen of that size shows it."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser doesn't answer"
            block = os.read(self._in, 1 << 16)
            assert block, "the browser has gone"
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            url = params["request"]["url"]
            self.requests += [] if url.startswith(("data:", "blob:", "about:")) else [url]
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        return message


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser whose settings and downloads lie in `folder`."""
    assert COMMAND is not None
    (there, to_browser), (from_browser, back) = os.pipe(), os.pipe()

    def arrange() -> None:  # Chromium reads descriptor 3 and writes to 4
        copies = os.dup(there), os.dup(back)
        os.dup2(copies[0], 3)
        os.dup2(copies[1], 4)

    command = [COMMAND, *SWITCHES, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(
        command,
        preexec_fn=arrange,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(there)
    os.close(back)
    try:
        browser = Browser(to_browser, from_browser)
        yield browser
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
        os.close(to_browser)
        os.close(from_browser)
