"""Check the six YAML files of KaniTTS and what they name, telling every fault at once.

Example: python tools/kani_check_config.py
Example: python tools/kani_check_config.py --config-dir configs/kani
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from kani.config_files import CONFIG_DIR
from ttscommon.cli import Parser, add_json, run
from ttscommon.files import write_json


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, out = map(parser.add_argument_group, ("data", "output"))
    data.add_argument(
        "--config-dir", type=Path, default=CONFIG_DIR, help="folder of the six YAML files"
    )
    add_json(out, "found")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse(argv)
    from kani.checking import check  # torch loads here, so --help stays instant

    findings = check(args.config_dir)
    for finding in findings:
        print(f"{'note:  ' if finding.is_remark else 'error: '}{finding}")
    if args.json:
        write_json(args.json, {"format": "kani.findings", "found": [vars(f) for f in findings]})
    n_errors = sum(not finding.is_remark for finding in findings)
    if n_errors:
        print(f"{n_errors} errors in {args.config_dir}")
        return 1
    print(f"All is well. Next: python tools/kani_train.py --config-dir {args.config_dir}")
    return 0


if __name__ == "__main__":
    run(main)
