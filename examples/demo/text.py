"""Text for the demo: a file, or the source of Python's standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

DEFAULT_BYTES = 4_000_000
DOCUMENT_LINES = 200


def read_text(path: Path | None) -> tuple[str, str]:
    """Return the text and its origin.

    Args:
        path: A text file, or a directory whose `*.txt`, `*.md`, `*.rst` and `*.py` files are read; if None, about
            4 MB of the standard library.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file or directory has no text.
    """
    if path is None:
        return _standard_library(), "the source of Python's standard library"
    if path.is_dir():
        names = sorted(name for name in path.rglob("*") if name.suffix in {".txt", ".md", ".rst", ".py"})
        text = "\n".join(_read(name) for name in names)
    else:
        text = _read(path)
    if not text.strip():
        raise ValueError(f"{path}: no text in it; name a text file, or a directory of *.txt, *.md, *.rst or *.py files")
    return text, str(path)


def documents(text: str, *, times: int = 1) -> list[str]:
    """Return the text in documents of 200 lines, repeated `times` times."""
    lines = text.splitlines(keepends=True)
    cut = ["".join(lines[start : start + DOCUMENT_LINES]) for start in range(0, len(lines), DOCUMENT_LINES)]
    return cut * times


def _standard_library() -> str:
    sources: list[str] = []
    size = 0
    for name in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        sources.append(_read(name))
        size += len(sources[-1])
        if size >= DEFAULT_BYTES:
            break
    return "\n".join(sources)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
