"""The one error a person is meant to see."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something the person at the keyboard can put right.

    `ttscommon.cli.run` prints it as one line without a traceback and exits with 1.

    Args:
        what: what is wrong, in lower case, with the offending value
        where: the file, folder or setting it was found in
        fix: a command to type or a change to make
    """

    def __init__(self, what: str, *, where: Path | str | None = None, fix: str | None = None):
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where is not None else ""
        advice = f" Fix: {self.fix}" if self.fix else ""
        return " ".join(f"{self.what}{place}.{advice}".split())
