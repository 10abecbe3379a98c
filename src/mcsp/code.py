"""Versions of the code behind each stage.

Snakemake does not track imported code, so each rule carries a hash of the modules that its stage reaches through
imports. Comments, docstrings and layout do not count: they can't change a result.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _module_path(name: str) -> Path | None:
    """File of the module `name` ('mcsp.fmri.stage'), None when it is no module of this package."""
    base = PACKAGE.parent.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


@cache
def _parse(name: str) -> tuple[str, frozenset[str]]:
    """Normalised source of a module and the names of the `mcsp` modules that it imports, anywhere in its text."""
    tree = ast.parse(_module_path(name).read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0].value = ast.Constant("")
    ours = {n for name_ in imported if name_.split(".")[0] == "mcsp" for n in _parents(name_) if _module_path(n)}
    return ast.dump(tree), frozenset(ours)


@cache
def modules_of(entry: str) -> tuple[str, ...]:
    """All `mcsp` modules that the module `entry` reaches through imports, itself included, sorted."""
    seen: set[str] = set()
    waiting = set(_parents(entry))
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= _parse(name)[1] - seen
    return tuple(sorted(seen))


@cache
def code_version(entry: str) -> str:
    """Hash of all the code that the stage module `entry` (e.g. 'mcsp.fmri.stage') reaches."""
    digest = hashlib.sha256()
    for name in modules_of(entry):
        if name != "mcsp":  # holds the version number only
            digest.update(f"{name}\n{_parse(name)[0]}\n".encode())
    return digest.hexdigest()[:12]


def files_version(folder: Path) -> str:
    """Hash of the files in `folder` that are no Python: what a page is filled into."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".html", ".css", ".js", ".bib"):
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
