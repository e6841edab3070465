"""What the docs say is so: code compiles or runs, commands and options exist, links lead somewhere."""

from __future__ import annotations

import argparse
import inspect
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tako import config, errors
from tako.cli import arguments, main
from tako.config import load

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts and ".tako" not in path.parts
)
# Commands of the design that this version does not have; a page names one only to say so.
NOT_YET: set[str] = set()
EVERY_COMMAND_HAS = {"--help", "--json"}
# What else a console block may start with.
OTHER_COMMANDS = {"cd", "curl", "export", "kill", "pip", "python3", "sudo", "git", "tako-server"}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, and a comment `<!-- … -->` on the line above it."""

    page: Path
    line: int
    language: str
    text: str
    marker: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        above = lines[start - 1] if start else ""
        marker = above.removeprefix("<!--").removesuffix("-->").strip() if above.startswith("<!--") else ""
        yield Block(page, start + 1, lines[start][3:].strip(), "\n".join(lines[start + 1 : number]), marker)
        start = None
    assert start is None, f"{page}:{start} opens a block that nothing closes"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of_language(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_its_language(block: Block) -> None:
    assert block.language in {"python", "toml", "console", "text", "sql", "json"}


@pytest.mark.parametrize("block", of_language("python"), ids=str)
def test_python_compiles_and_runs_where_it_is_marked_so(block: Block, tmp_path: Path) -> None:
    code = compile(block.text, f"{block}", "exec", dont_inherit=True)

    if block.marker == "run":
        path = tmp_path / "block.py"
        path.write_text("\n" * block.line + block.text)
        runpy.run_path(str(path))
    assert code is not None


@pytest.mark.parametrize("block", of_language("toml"), ids=str)
def test_toml_is_a_tako_toml_that_loads(block: Block, tmp_path: Path) -> None:
    (tmp_path / "tako.toml").write_text(block.text)

    assert load.load(tmp_path).name


def test_the_example_of_every_key_loads(tmp_path: Path) -> None:
    (tmp_path / "tako.toml").write_text(example_toml())

    assert load.load(tmp_path).name == "my-app"


def test_every_key_of_tako_toml_is_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/config.md").read_text()
    keys = re.findall(r"^#? ?([a-z_]+) = ", example_toml(), re.MULTILINE)
    assert len(keys) > 20

    assert [key for key in keys if not re.search(rf"\b{key}\b", reference)] == []


def test_the_page_of_signatures_is_what_the_code_says() -> None:
    made = runpy.run_path(str(ROOT / "scripts/reference"))["text"]()

    assert (ROOT / "docs/reference/signatures.md").read_text() == made, "run scripts/reference"
    assert re.findall(r"^def (\w+)\(", made, re.MULTILINE).count("step") == 1


@pytest.mark.parametrize("block", of_language("console"), ids=str)
def test_console_blocks_name_commands_and_options_that_exist(block: Block) -> None:
    for line in block.text.splitlines():
        if not line.startswith("$ "):
            continue
        words = shlex.split(line[2:], comments=True)
        if words[0] == "tako":
            parse(words[1:])
        elif words[0] == "make":
            assert set(words[1:]) <= make_targets(), line
        else:
            assert words[0] in OTHER_COMMANDS or (ROOT / words[0]).is_file(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_that_a_page_names_exists(page: Path) -> None:
    for named in re.findall(r"`tako ([a-z]+)\b", page.read_text()):
        assert named in main.COMMANDS or named in NOT_YET, f"{page.name} names `tako {named}`"


def test_what_is_called_missing_is_missing() -> None:
    assert set(main.COMMANDS) & NOT_YET == set()


@pytest.mark.parametrize("command", sorted(main.COMMANDS))
def test_every_command_subcommand_and_option_is_in_the_reference(command: str) -> None:
    reference = (ROOT / "docs/reference/cli.md").read_text()

    assert f"## tako {command}\n" in reference
    section = reference.split(f"## tako {command}\n")[1].split("\n## ")[0]
    for word in words_of(parser_of(command)):
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", section), f"tako {command}: {word} is not described"


def test_every_error_is_in_the_reference_with_its_code() -> None:
    reference = (ROOT / "docs/reference/sdk.md").read_text()

    for code, kind in errors.BY_CODE.items():
        assert f"| `{kind.__name__}` | `{code}` |" in reference


def test_every_field_of_worker_unhealthy_is_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/sdk.md").read_text().split("### `WorkerUnhealthy`")[1]
    fields = [name for name, value in vars(errors.WorkerUnhealthy).items() if isinstance(value, property)]
    assert "retry_after" in fields

    assert [name for name in fields if f"`{name}`" not in reference] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}"


def test_files_that_a_page_names_exist() -> None:
    for page in PAGES:
        for named in re.findall(r"`([a-z_]+/[\w./-]+\.(?:py|sql|toml|txt|md))`", page.read_text()):
            if named.startswith("workflows/"):
                continue  # a file of the reader's
            places = (ROOT / named, ROOT / "src/tako" / named, page.parent / named)
            assert any(place.exists() for place in places), f"{page.name} names {named}"


@pytest.mark.parametrize(("page", "count", "untested"), [("loud.md", 40, set()), ("failures.md", 56, {56})])
def test_each_row_of_the_tables_of_failures_names_tests_that_exist(page: str, count: int, untested: set[int]) -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*?) ?\|$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, count + 1))

    for number, cell in rows:
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell):
            assert f"def {name}(" in (ROOT / path).read_text(), f"row {number} names {path}::{name}"
        assert ("::" in cell) is (int(number) not in untested), f"row {number} names no test: {cell}"


# The promises of the contract. What needs a store that several servers share is not built.
PROMISES = {"D": 10, "E": 12, "I": 9, "L": 4, "R": 8, "S": 6, "C": 4, "O": 4, "X": 6}
NOT_BUILT = {"C4", "R7"}


def test_each_promise_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| ([A-Z]\d+) \| ([^|]+) \| ([^|]*) \|$", promises_page()[1], re.MULTILINE)
    assert list(dict.fromkeys(name for name, _, _ in rows)) == list(promises())

    for name, promise, cell in rows:
        found = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell)
        for path, test in found:
            assert f"def {test}(" in (ROOT / path).read_text(), f"{name} names {path}::{test}"
        assert bool(found) is (name not in NOT_BUILT), f"{name} names no test: {promise}"


def test_each_sentence_of_the_summary_leads_to_a_promise_that_is_tested() -> None:
    summary = promises_page()[0].split("## What survives")[1].split("## What is not promised")[0]
    items = re.findall(r"^(?:- |\*\*|\| (?!---|\|)).*(?:\n  .*)*", summary, re.MULTILINE)
    assert len(items) >= 16

    for item in items:
        named = re.findall(r"\b[A-Z]\d{1,2}\b", item)
        assert named or "(loud.md)" in item, f"no promise stands for: {item}"
        assert set(named) <= promises().keys() - NOT_BUILT, item


def promises() -> dict[str, None]:
    """Their names, in order."""
    return {f"{letter}{number + 1}": None for letter, count in PROMISES.items() for number in range(count)}


def promises_page() -> list[str]:
    """The summary, and the promises one by one."""
    return (ROOT / "docs/promises.md").read_text().split("## One by one")


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs/decisions/0002-dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]

    assert [name for name in wanted if f"`{re.split('[<>=]', name)[0]}`" not in page] == []


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)

    assert words == sorted(words)


def example_toml() -> str:
    return (Path(inspect.getfile(config)).parent / "example.toml").read_text()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parser_of(command: str) -> arguments.Parser:
    parser = arguments.Parser(prog=f"tako {command}")
    arguments.load(command).configure(parser)
    return parser


def parse(argv: list[str]) -> None:
    """Let the command's own parser read the line; UsageError when it would not take it."""
    if argv in (["--help"], ["--version"]):
        return
    assert argv[0] in main.COMMANDS, f"tako {argv[0]}"
    parser = parser_of(argv[0])
    if argv[0] in main.OF_ANY_ENGINE:
        arguments.add_where(parser)
    parser.add_argument("--json", action="store_true")
    prepare = getattr(arguments.load(argv[0]), "prepare", list)
    parser.parse_args(prepare(argv[1:]))


def words_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The subcommands and long options of a parser. `--json` and `--help` are said once for all commands."""
    for action in parser._actions:
        yield from (word for word in action.option_strings if word.startswith("--") and word not in EVERY_COMMAND_HAS)
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                yield name
                yield from words_of(subparser)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual viewers make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found
