"""On which line each key of a TOML text stands; `tomllib` reads values and forgets where they were.

The text has been read by `tomllib` already, so this scanner trusts it: it only needs to tell keys from values.
"""

Path = tuple[str, ...]

_SPACE = " \t"
_BLANK = " \t\r\n"
_BARE_END = " \t\r\n.=]},#"


def find(text: str) -> dict[Path, int]:
    """The line, from 1, on which each key and table first stands. `{("workflows", "mail"): 12, …}`."""
    return _Scanner(text).statements()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._line = 1
        self._counted = 0

    def statements(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_blank():
            if self._peek() == "[":
                while self._peek() == "[":
                    self.at += 1
                table = self._key(prefix=())
                self._skip_line()
            else:
                self._pair(prefix=table)
        return self.lines

    def _pair(self, *, prefix: Path) -> None:
        path = self._key(prefix=prefix)
        self._skip(_SPACE)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        if self._peek() == "{":
            self._inline_table(path)
        else:
            self._value()

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while self._skip_blank() and self._peek() != "}":
            if self._peek() == ",":
                self.at += 1
            else:
                self._pair(prefix=path)
        self.at += 1

    def _key(self, *, prefix: Path) -> Path:
        """Read a dotted key and note the line of each of its parts."""
        path = prefix
        while True:
            self._skip(_SPACE)
            line = self._current_line()
            path = (*path, self._key_part())
            self.lines.setdefault(path, line)
            self._skip(_SPACE)
            if self._peek() != ".":
                return path
            self.at += 1

    def _key_part(self) -> str:
        start = self.at
        if self._peek() in "\"'":
            self._string()
            quoted = self.text[start : self.at]
            return _unquote(quoted)
        while self._peek() and self._peek() not in _BARE_END:
            self.at += 1
        return self.text[start : self.at]

    def _value(self) -> None:
        """Skip a value that is not an inline table: up to the end of its line, or what closes the table around it."""
        depth = 0
        while char := self._peek():
            if char in "\"'":
                self._string()
                continue
            if char == "#":
                self._skip_line()
                continue
            if char in "[{":
                depth += 1
            elif char in "]}":
                if depth == 0:
                    return
                depth -= 1
            elif depth == 0 and char in ",\n":
                return
            self.at += 1

    def _string(self) -> None:
        quote = self._peek()
        if self.text.startswith(quote * 3, self.at):
            self._multiline_string(quote)
            return
        self.at += 1
        while (char := self._peek()) and char != quote:
            self.at += 2 if char == "\\" and quote == '"' else 1
        self.at += 1

    def _multiline_string(self, quote: str) -> None:
        self.at += 3
        while self.at < len(self.text) and not self.text.startswith(quote * 3, self.at):
            self.at += 2 if self._peek() == "\\" and quote == '"' else 1
        # Up to two quotes may stand before the closing three: `""""quoted""""`.
        while self._peek() == quote:
            self.at += 1

    def _skip_blank(self) -> bool:
        """Skip white space, newlines and comments. False at the end of the text."""
        while True:
            self._skip(_BLANK)
            if self._peek() != "#":
                return self.at < len(self.text)
            self._skip_line()

    def _skip(self, chars: str) -> None:
        while self._peek() and self._peek() in chars:
            self.at += 1

    def _skip_line(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _current_line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line


def _unquote(quoted: str) -> str:
    """The text of a quoted key. Escapes are rare in keys, so they are left to the parser that knows them."""
    if "\\" not in quoted or quoted[0] == "'":
        return quoted[1:-1]
    import tomllib

    return next(iter(tomllib.loads(f"{quoted} = 0")))
