"""Every tool, every config and every command that the documentation gives."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ttscommon.cli import Parser
from ttscommon.config import load, read_mapping, to_dict
from ttscommon.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("[!_]*.py"))
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*") if path.suffix in {".yaml", ".json"}
)
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def parser_of(tool: str) -> Parser:
    return importlib.import_module(f"tools.{tool}").build_parser()


def flags_of(tool: str) -> Iterator[tuple[str, argparse.Action]]:
    parsers: list[argparse.ArgumentParser] = [parser_of(tool)]
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            for flag in action.option_strings:
                if flag.startswith("--"):
                    yield flag, action


@pytest.mark.parametrize("tool", TOOLS)
def test_help_is_there_without_torch_and_from_any_folder(tool, tmp_path):
    script = str(ROOT / "tools" / f"{tool}.py")
    code = (  # None in sys.modules makes `import torch` an ImportError
        f"import runpy, sys; sys.modules['torch'] = None; sys.argv = [{script!r}, '--help']; "
        f"runpy.run_path({script!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {tool}.py")
    assert f"python tools/{tool}.py" in done.stdout  # an example to copy


@pytest.mark.parametrize("tool", TOOLS)
def test_flags_are_kebab_case_and_have_help(tool):
    for flag, action in flags_of(tool):
        assert re.fullmatch(r"--[a-z0-9]+(-[a-z0-9]+)*", flag), flag
        assert action.help, f"{flag} has no help"


def test_a_flag_means_the_same_in_every_tool():
    seen: dict[str, tuple[str, dict[str, Any]]] = {}
    for tool in TOOLS:
        for flag, action in flags_of(tool):
            first, meaning = seen.setdefault(flag, (tool, meaning_of(action)))
            assert meaning_of(action) == meaning, f"{flag} differs in {first} and {tool}"


def meaning_of(action: argparse.Action) -> dict[str, Any]:
    """What a flag takes and is called. Defaults, wording and number of values may differ."""
    kind = "switch" if action.nargs == 0 else getattr(action.type or str, "__name__", "?")
    # The guides give the same letter to different flags.
    long = [name for name in action.option_strings if name.startswith("--")]
    names = sorted(name for name in long if not name.startswith("--no-"))
    return {"kind": kind, "dest": action.dest, "names": names}


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if "--speaker" in dict(flags_of(tool))])
def test_a_speaker_outside_the_training_folder_is_refused(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = dict(flags_of(tool))
    words = ["--text", "Hello."] if "--text" in flags else []
    required = [flag for flag, action in flags.items() if action.required and flag != "--speaker"]
    words += [word for flag in required for word in (flag, "x.pth")]
    with pytest.raises(UserError, match="can't be a speaker's name"):
        importlib.import_module(f"tools.{tool}").main(["--speaker", "../x", *words])
    assert list(tmp_path.iterdir()) == []


def loaded(path: Path) -> Any:
    """What the tool that a config's folder is named after makes of the file."""
    kind = path.relative_to(ROOT / "configs").parts[0]
    if kind == "lewm_preprocess":
        from lewm.config import PreprocessConfig

        return load(PreprocessConfig, path)
    if kind == "lora_finetune_example.yaml":  # the guide's name for it
        from indextts.train_config import LoraTrainConfig
        from indextts.train_flags import chosen

        args = parser_of("train_gpt_lora").parse(["--config", str(path)])
        return chosen(args, LoraTrainConfig)
    if kind == "accelerate":
        from accelerate.commands.config.config_args import load_config_from_file

        return load_config_from_file(str(path))
    if kind == "kani":  # six files that belong together
        from kani.config_files import FILES, read

        return read(FILES[path.stem], path).require()
    tool = importlib.import_module(f"tools.{kind}")
    return tool.configs(tool.build_parser().parse(["--config", str(path)]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_loads(path):
    assert loaded(path)


def commands(text: str) -> Iterator[str]:
    """What a Markdown page says to type, in blocks and spans of code."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").split("\n")
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    for line in [*lines, *spans]:
        line = re.sub(r"^(\$ |OMP_NUM_THREADS=\d+ |uv run )*", "", line.strip())
        if re.match(r"(make|accelerate launch|(\.venv/bin/)?python) +\S", line):
            yield line


def every_command() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for command in commands(page.read_text(encoding="utf-8")):
            yield str(page.relative_to(ROOT)), command
    for tool in TOOLS:
        epilog = parser_of(tool).epilog or ""
        for line in re.findall(r"^(?:Example: |\s+)?(python tools/.*)$", epilog, re.MULTILINE):
            yield tool, line


# As the guide of LeWM-TTS writes them, from inside its folder.
GUIDE_LEWM = """
python3 preprocess.py --input /path/to/dataset --output /path/to/processed_data
python3 train.py \\
  --data_dir processed_data_100mel \\
  --output_dir output_v3 \\
  --epochs 200 \\
  --batch_size 256 \\
  --spectral_weight 0.5
python3 inference.py --checkpoint output_v3/checkpoints/best.pt --text "your text" --mode synthesize
python3 inference.py --checkpoint output_v3/checkpoints/best.pt --mel path/to/mel.pt --mode predict
python3 inference_engine.py --checkpoint output_v3/checkpoints/best.pt --benchmark
"""


@pytest.mark.parametrize("command", GUIDE_LEWM.replace("\\\n", " ").strip().splitlines())
def test_the_guides_commands_parse_word_for_word(command):
    _, script, *words = shlex.split(command)
    door = (ROOT / "lewm" / script).read_text(encoding="utf-8")
    entry = re.search(r'run_tool\("(\w+)"\)', door)
    assert entry, f"lewm/{script} runs no tool"
    args = vars(parser_of(entry[1]).parse(words))
    given = [word[2:].replace("-", "_") for word in words if word.startswith("--")]
    assert all(args[name] not in (None, False) for name in given)


@pytest.mark.parametrize(("where", "command"), list(every_command()))
def test_every_command_in_the_documentation_parses(where, command):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert set(targets) <= set(TARGETS), f"{where}: no such target in the Makefile"
        return
    scripts = [i for i, word in enumerate(words) if word.endswith(".py")]
    assert scripts, f"{where}: no script in: {command}"
    script = ROOT / words[scripts[0]]
    assert script.is_file(), f"{where}: {words[scripts[0]]} does not exist"
    entry = re.search(r'run_tool\("(\w+)"\)', script.read_text(encoding="utf-8"))
    if entry:  # a door of the guides, which runs the tool
        script = ROOT / "tools" / f"{entry[1]}.py"
    module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
    importlib.import_module(module).build_parser().parse(words[scripts[0] + 1 :])


def test_the_example_of_all_settings_says_the_defaults():
    from indextts.train_config import LoraTrainConfig

    path = ROOT / "configs/lora_finetune_example.yaml"
    config = LoraTrainConfig()
    assert loaded(path) == config
    assert {*read_mapping(path)} == {*to_dict(config)}
