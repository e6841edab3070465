"""`tako.toml` is checked to the last key, and every error tells file, line, key and what would do."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.config import dotenv, load
from tako.config.dump import dump
from tako.config.model import Config, GroupSettings
from tako.errors import ConfigError

# The machine that tests run on may be busy with other things.

ROOT = Path("/srv/my-app")
EXAMPLE = Path(load.__file__).with_name("example.toml")


def parse(text: str) -> Config:
    return load.parse(text.encode(), root=ROOT)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse(text)
    found = raised.value.detail["problems"]
    assert isinstance(found, list)
    return found


# What loads


def test_the_example_that_is_shipped_loads_and_uses_every_table() -> None:
    config = load.parse(EXAMPLE.read_bytes(), root=ROOT)

    assert config.group("mail") == GroupSettings(workers=1, max_workers=4)
    assert config.web.static == {"/static": "staticfiles"}
    assert config.envs["production"].servers == ("fra1",)
    assert config.alerts.email is not None


def test_the_example_states_the_defaults_as_they_are() -> None:
    example = load.parse(EXAMPLE.read_bytes(), root=ROOT)
    plain = parse("")

    assert example.group("default") == plain.group("default")
    assert (example.retention_s, example.durability) == (plain.retention_s, plain.durability)
    assert example.web.start_timeout_s == plain.web.start_timeout_s
    assert example.web.idle_timeout_s is plain.web.idle_timeout_s is None


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("My Shop", "my-shop"),
        ("shop_v2", "shop-v2"),
        ("..", "app"),
        ("日本", "app"),
        ("-x-", "x"),
        ("a" * 90, "a" * 40),
    ],
)
def test_without_a_name_the_app_is_called_like_its_folder(folder: str, name: str) -> None:
    assert load.name_of(Path("/srv") / folder) == name


def test_no_tako_toml_is_needed(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()

    config = load.load(tmp_path / "shop")

    assert (config.name, config.path, config.root) == ("shop", None, tmp_path / "shop")
    assert config.group("anything").workers == 0


def test_a_group_inherits_what_workflows_says_and_overrides_it() -> None:
    config = parse("[workflows]\nconcurrency = 3\nidle_timeout = '1m'\n[workflows.mail]\nworkers = 4\n")

    assert config.group("mail") == GroupSettings(workers=4, max_workers=4, concurrency=3, idle_timeout_s=60.0)
    assert config.group("default").workers == 0


def test_a_server_overrides_the_base_of_all_groups_and_single_ones() -> None:
    config = parse(
        "[envs.production]\nservers = ['fra1', 'nyc1']\n[workflows.mail]\nworkers = 1\n"
        "[servers.fra1.workflows]\nconcurrency = 2\n[servers.fra1.workflows.mail]\nworkers = 3\n"
    )

    assert config.group("mail", server="fra1") == GroupSettings(workers=3, max_workers=3, concurrency=2)
    assert config.group("default", server="fra1").concurrency == 2
    assert config.group("mail", server="nyc1").workers == 1


def test_variables_of_an_environment_win() -> None:
    config = parse("[vars]\nA = '1'\nB = '1'\n[vars.production]\nB = '2'\n")

    assert config.variables("production") == {"A": "1", "B": "2"}
    assert config.variables("development") == {"A": "1", "B": "1"}


def test_the_interpreter_is_the_one_of_the_virtual_environment_if_there_is_one(tmp_path: Path) -> None:
    assert load.load(tmp_path).python == sys.executable

    (tmp_path / ".venv").mkdir()

    assert load.load(tmp_path).python == str(tmp_path / ".venv/bin/python")
    assert parse('python = "env/bin/python3"').python == "/srv/my-app/env/bin/python3"


def test_a_command_is_a_list_or_a_line() -> None:
    assert parse("[web]\ncommand = 'gunicorn \"my app:app\" -b :$PORT'").web.command == (
        "gunicorn", "my app:app", "-b", ":$PORT",
    )  # fmt: skip
    assert parse('[web]\ncommand = ["a", "b c"]\nlisten = "fd"').web.listen == "fd"


def test_one_route_may_be_written_without_a_list() -> None:
    assert parse('[envs.production]\nroute = "example.com/shop"').envs["production"].routes == ("example.com/shop",)


def test_a_file_with_a_byte_order_mark_and_windows_newlines_loads() -> None:
    assert load.parse(b'\xef\xbb\xbfname = "shop"\r\n[web]\r\ninstances = 2\r\n', root=ROOT).web.instances == 2


# What is refused


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[workflows]\nidle_timeout = 30", '2: workflows.idle_timeout: expected a duration such as "30s", found 30'),
        ("[workflows]\nconcurency = 3", '2: workflows.concurency: unknown key; did you mean "concurrency"?'),
        ("\n[workflow]\n", '2: workflow: unknown key; did you mean "workflows"?'),
        ("idle_timeout = '5m'", "1: idle_timeout: unknown key; it belongs to [workflows] or [web]"),
        ("[web]\nname = 'x'", "2: web.name: unknown key; it belongs to the top of the file (before the first [table])"),
        ("[web]\nworkers = 1", "2: web.workers: unknown key; it belongs to [workflows]"),
        ("[workflows.mail]\nretention = '1d'", "2: workflows.mail.retention: unknown key; it belongs to [workflows]"),
        ("[build]\nzzz = 1", "2: build.zzz: unknown key; known here: include, run"),
        ("[workflows]\nworkers = true", "2: workflows.workers: expected a whole number from 0 to 1000, found true"),
        ("[workflows]\nworkers = -1", "2: workflows.workers: expected a whole number from 0 to 1000, found -1"),
        ("workflows = 3", "1: workflows: expected a table, found 3"),
        (
            "[workflows]\nworkers = 2\nmax_workers = 1",
            "3: workflows.max_workers: expected at least as many as workers (2), found 1",
        ),
        ("[workflows.retention]\na = 1", '1: workflows.retention: expected a duration such as "30s", found a table'),
        ("[workflows]\ndurability = 'none'", '2: workflows.durability: expected "full" or "process", found "none"'),
        ("[web]\nlisten = 'fd'", "2: web.listen: is for a command, and there is none; remove it, or add web.command"),
        ("main = 'a:b'\n[web]\ncommand = 'x'", "3: web.command: stands instead of main; remove one of them"),
        (
            "main = 'app.py'",
            '1: main: expected "module:attribute" such as "app:app", or "app:create_app()", found "app.py"',
        ),
        (
            "[web]\nstatic = { '/s' = '../x' }",
            '2: web.static: expected a table such as { "/static" = "staticfiles" }; '
            'the folder of "/s" must lie inside the app, found a table',
        ),
        ("[vars]\nA = 3", '2: vars.A: expected a text; write "3"'),
        ("[vars]\nTAKO_X = '3'", "2: vars.TAKO_X: TAKO_X is set by Tako; choose another name"),
        (
            "[vars.prodution]\nA = '3'",
            '1: vars.prodution: there is no environment of this name; did you mean "production"?',
        ),
        ("[envs.development]", "1: envs.development: development is what `tako dev` runs; it is not deployed"),
        (
            "[envs.a]\nroutes = ['Example.com']",
            '2: envs.a.routes: expected a list of hosts such as ["example.com"], found ["Example.com"]',
        ),
        ("[servers.fra1]", "1: servers.fra1: no environment is on this server"),
        ("[alerts]\nemail = { to = 'a@b.c' }", "2: alerts.email: expected smtp too; alerts.email needs to and smtp"),
    ],
)
def test_each_problem_names_file_line_key_and_what_would_do(text: str, problem: str) -> None:
    assert problems(text) == [f"tako.toml:{problem}"]


@pytest.mark.parametrize("name", ["../up", "a/b", "A", "a_b", "-a", "a-", "", " ", "a" * 41, "a.b", "é", "a\\u0000b"])
def test_a_name_that_could_leave_its_folder_or_its_host_is_refused(name: str) -> None:
    assert problems(f'name = "{name}"')[0].startswith("tako.toml:1: name: expected a name such as")


@pytest.mark.parametrize(
    "value", ["", "30", "s", "-1s", "0s", "1.5h", "5m1h", "1m1m", "1h 30m", "10000000d", "٣s", "never"]
)
def test_what_is_no_duration_is_refused(value: str) -> None:
    assert (
        'workflows.idle_timeout: expected a duration such as "30s"'
        in problems(f'[workflows]\nidle_timeout = "{value}"')[0]
    )


@pytest.mark.parametrize(
    ("value", "seconds"), [("90s", 90), ("1h30m", 5400), ("7d", 604800), ("500ms", 0.5), ("1m500ms", 60.5)]
)
def test_durations_add_up_their_units(value: str, seconds: float) -> None:
    assert parse(f'[workflows]\nidle_timeout = "{value}"').group("default").idle_timeout_s == seconds


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    found = problems("nmae = 'x'\n[web]\ninstances = 0\n[workflows]\nworkers = 'two'\n")

    assert [problem.split(":")[1] for problem in found] == ["1", "3", "5"]


def test_a_webhook_and_a_mail_password_are_never_shown() -> None:
    text = "[alerts]\nwebhook = 'ftp://token-abc@x'\nemail = { to = 'a@b.c', smtp = 'http://:pass-abc@x' }"

    assert "abc" not in "\n".join(problems(text))


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    found = problems('"\\u001b[31mred\\nline" = 1\nmain = "\\u001b[31m"')

    assert len(found) == 2
    assert not any(ord(char) < 32 for problem in found for char in problem)


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"name = \n", "tako.toml:1: not TOML: Invalid value"),
        (b"[web]\n[web]\n", "tako.toml:2: not TOML: Cannot declare"),
        (b"a = 'x", "tako.toml:1: not TOML:"),
        (b"name = 'x'\n\xff\n", "tako.toml:2: not UTF-8 (byte 0xff)"),
        (b"name = \x00\n", "tako.toml:1: not TOML"),
        (b"a = " + b"[" * 100_000, "tako.toml: nested too deep"),
        (b"a = " + b"9" * 5000, "tako.toml: not TOML"),
        (b"a = 2026-13-45\n", "tako.toml"),
        (b"#" * 1_048_577, "tako.toml: larger than"),
    ],
)
def test_a_file_that_is_not_toml_says_where(data: bytes, start: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load.parse(data, root=ROOT)

    assert str(raised.value).startswith(start)


def test_a_file_that_cannot_be_read_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "tako.toml").mkdir()

    with pytest.raises(ConfigError, match=r"tako.toml: cannot be read: Is a directory"):
        load.load(tmp_path)


def test_a_dangling_link_is_not_taken_for_no_file(tmp_path: Path) -> None:
    (tmp_path / "tako.toml").symlink_to(tmp_path / "gone")

    with pytest.raises(ConfigError, match="symbolic link"):
        load.load(tmp_path)


# Groups


def test_a_group_table_that_no_workflow_uses_is_refused_with_the_nearest_group() -> None:
    config = parse("[workflows.mial]\nworkers = 1\n")

    with pytest.raises(ConfigError) as raised:
        load.check_groups(config, {"mail", "default"})
    assert str(raised.value).splitlines() == [
        'tako.toml:1: workflows.mial: no workflow is of this group; did you mean "mail"?',
        'tako.toml:1: workflows: a workflow is of group "mail", which has no table; did you mean "mial"?',
    ]


def test_once_there_is_a_group_table_each_group_but_default_needs_one() -> None:
    config = parse("[workflows.mail]\n")

    load.check_groups(config, {"mail", "default"})
    with pytest.raises(ConfigError, match='"reports", which has no table; add it, or use one of: mail'):
        load.check_groups(config, {"mail", "reports"})


def test_without_group_tables_any_group_will_do() -> None:
    load.check_groups(parse("[workflows]\nworkers = 1"), {"mail", "reports"})
    load.check_groups(parse(""), set())


def test_a_table_of_the_default_group_must_be_used_too() -> None:
    with pytest.raises(ConfigError, match=r"workflows.default: no workflow is of this group"):
        load.check_groups(parse("[workflows.default]\nworkers = 1"), set())


def test_a_server_cannot_override_a_group_without_a_table() -> None:
    text = "[envs.production]\nservers = ['a']\n[workflows.mail]\n[servers.a.workflows.mial]\nworkers = 1"

    assert problems(text) == [
        'tako.toml:4: servers.a.workflows.mial: there is no [workflows.mial] to override; did you mean "mail"?'
    ]


# Whatever the bytes


_words = st.sampled_from([
    "name", "main", "workflows", "web", "vars", "envs", "servers", "alerts", "email", "static", "mail", "workers",
    "idle_timeout", "[", "]", "[[", "{", "}", "=", ".", ",", "\n", '"', "'", "'''", '"""', "\\", "#", "1", "true",
    '"5m"', "never",
    "\0", "é", "2026-01-01", "-", " ", "\r\n", "production", "route", "A",
])  # fmt: skip


@given(st.binary(max_size=200) | st.lists(_words, max_size=30).map(lambda words: "".join(words).encode()))
def test_any_bytes_are_a_config_or_a_config_error(data: bytes) -> None:
    try:
        load.parse(data, root=ROOT)
    except ConfigError as error:
        assert str(error).startswith("tako.toml")


_scalars = (
    st.text(max_size=8)
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.sampled_from(["5m", "never", "app:app"])
)
_keys = st.sampled_from(
    ["name", "main", "web", "vars", "workflows", "mail", "workers", "static", "envs", "production", "email", "servers"]
)
_values = st.recursive(
    _scalars, lambda inner: st.dictionaries(_keys, inner, max_size=3) | st.lists(inner, max_size=3), max_leaves=8
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
    return repr(value)


@given(st.dictionaries(_keys, _values, max_size=5))
def test_any_shape_of_values_is_a_config_or_a_config_error_with_lines(document: dict[str, object]) -> None:
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in document.items())
    try:
        parse(text)
    except ConfigError as error:
        assert all(line.startswith("tako.toml:") for line in error.message.splitlines())


# There and back


_seconds = st.integers(1, 86_400_000).map(lambda ms: f'"{ms}ms"')
_group = st.fixed_dictionaries({}, optional={
    "workers": st.integers(0, 9), "concurrency": st.integers(1, 99), "idle_timeout": _seconds, "boot_timeout": _seconds,
})  # fmt: skip


@given(
    base=_group,
    mail=_group,
    own=_group,
    value=st.text("a \"'\\\n\t\x7f\x1bé😀#"),
)
def test_what_is_dumped_is_read_back_the_same(
    base: dict[str, object], mail: dict[str, object], own: dict[str, object], value: str
) -> None:
    tables = [("workflows", base), ("workflows.mail", mail), ("servers.a.workflows.mail", own)]
    text = f"[vars]\nA = {_toml(value)}\n[envs.production]\nservers = ['a']\n"
    for name, values in tables:
        text += f"[{name}]\n" + "".join(f"{key} = {item}\n" for key, item in values.items())
    config = parse(text)

    again = parse(dump(config))

    assert again == config


def test_the_example_is_dumped_and_read_back_the_same() -> None:
    config = load.parse(EXAMPLE.read_bytes(), root=ROOT)

    assert parse(dump(config)) == config


@pytest.mark.parametrize("name", ["tako.toml", ".env"])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_a_file_of_a_cloned_repository_that_is_none_is_refused_and_not_read(
    tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / name
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()

    with pytest.raises(ConfigError, match="cannot be read: "):
        load.load(tmp_path) if name == "tako.toml" else dotenv.load(tmp_path)
