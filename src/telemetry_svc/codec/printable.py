"""Bytes of strangers as one printable line: a terminal, a log or a page shows them, and nothing in them acts there.

What is UTF-8 and printable stays as it is; every other character or byte, and the backslash, becomes an escape, so that
the line tells exactly what the bytes were (fault 43: CR LF and ANSI sequences).
"""


def printable_line(raw: bytes, limit: int | None = None) -> str:
    """At most the first `limit` bytes."""
    return printable_text(raw[:limit].decode(errors="surrogateescape"))


def printable_text(text: str) -> str:
    """The same of text."""
    return "".join(char if char.isprintable() and char != "\\" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char < "\x80":
        return char.encode("unicode_escape").decode()
    return f"\\u{ord(char):04x}" if char <= "\uffff" else f"\\U{ord(char):08x}"
