"""SQL and commands in colours, while they are typed."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer

from trough.shell.command_registry import Registry
from trough.shell.input.statements import ParseMode
from trough.shell.input.vocabulary import FUNCTIONS, KEYWORDS
from trough.sql.tokens import TokenKind, scan

#: The colours; each terminal shows them in its own shades.
STYLE = {
    "command": "ansimagenta bold",
    "keyword": "ansiblue bold",
    "function": "ansicyan",
    "string": "ansigreen",
    "number": "ansiyellow",
    "comment": "ansibrightblack italic",
    "parameter": "ansired",
    "bottom-toolbar": "noreverse bg:ansibrightblack ansiwhite",
}

_CLASSES = {
    TokenKind.STRING: "class:string",
    TokenKind.NUMBER: "class:number",
    TokenKind.COMMENT: "class:comment",
    TokenKind.PARAMETER: "class:parameter",
    TokenKind.GO: "class:command",
}


class ShellLexer(Lexer):
    """Colours for the line editor. A text is scanned once, even if it is drawn many times."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._text = ""
        self._lines: list[StyleAndTextTuples] = [[]]

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        if document.text != self._text:
            self._text = document.text
            self._lines = _in_lines(self._coloured(document.text))
        lines = self._lines
        return lambda number: lines[number] if number < len(lines) else []

    def _coloured(self, text: str) -> StyleAndTextTuples:
        pieces: StyleAndTextTuples = []
        position = 0
        begins = True
        while position < len(text):
            start = len(text) - len(text[position:].lstrip()) if begins else position
            found = self._registry.find(text, start) if begins else None
            if found and found[0].rest is not ParseMode.SQL:
                end = found[1]
                stop = text.find("\n", end)
                stop = len(text) if stop < 0 else stop
                pieces += [("", text[position:start]), ("class:command", text[start:end])]
                pieces.append(("", text[end:stop]))
                position = stop
                begins = position < len(text)
                if begins and text[position:].strip() == "":
                    pieces.append(("", text[position:]))
                    break
                continue
            position = self._colour_statement(text, position, found[1] if found else -1, pieces)
            begins = True
        return pieces

    def _colour_statement(
        self, text: str, position: int, name_end: int, pieces: StyleAndTextTuples
    ) -> int:
        """Colour SQL up to its end, and return the position of the end."""
        for token in scan(text, "", position):
            style = _CLASSES.get(token.kind, "")
            if token.kind is TokenKind.WORD:
                word = token.text.upper()
                if word in KEYWORDS:
                    style = "class:keyword"
                elif token.end <= name_end:  # GATHER
                    style = "class:command"
                elif word in FUNCTIONS and text[token.end : token.end + 1] == "(":
                    style = "class:function"
            pieces.append((style, token.text))
            if token.kind in (TokenKind.SEMICOLON, TokenKind.GO):
                return token.end
        return len(text)


def _in_lines(pieces: StyleAndTextTuples) -> list[StyleAndTextTuples]:
    lines: list[StyleAndTextTuples] = [[]]
    for style, text, *_ in pieces:
        first, *others = text.split("\n")
        lines[-1].append((style, first))
        lines += [[(style, other)] for other in others]
    return lines
