"""What an instance is started with is read as it was written."""

import pytest

from tako.protocol import control


@pytest.mark.parametrize(
    "arguments",
    [
        control.Arguments(main="app:app"),
        control.Arguments(main="app:create_app()", access_log=True, start_timeout_ms=1, orphan_timeout_ms=15_000),
        control.Arguments(command=["gunicorn", "--bind", "$HOST:$PORT", "--", "a b"], listen="fd", drain_timeout_ms=7),
    ],
)
def test_a_command_line_is_read_as_it_was_written(arguments: control.Arguments) -> None:
    line = control.argv("python", arguments)

    found = control.read_argv(line[3:])

    assert line[:3] == ["python", "-m", "tako.web"]
    for name in control.Arguments.__slots__:
        assert getattr(found, name) == getattr(arguments, name)


@pytest.mark.parametrize(
    "line", [[], ["--"], ["a", "b"], ["--what", "a"], ["--listen=x", "a"], ["--start-timeout-ms=x", "a"]]
)
def test_what_nobody_writes_is_refused(line: list[str]) -> None:
    with pytest.raises(ValueError):
        control.read_argv(line)
