"""Draw figures by their names from files that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from mcsp.errors import McspError
from mcsp.figures.catalogue import ALL, SEVERAL, module_of
from mcsp.options.results import FigureOptions

Files = Mapping[str, Path | Sequence[Path]]


def draw(kind: str, files: Files, *, task: str | None, out: Path, options: FigureOptions) -> None:
    """Draw one figure at the stem `out` from the `files` that its kind names; of others among them nothing is read.

    Raises McspError where one is not given or not there.
    """
    wanted = {}
    for key in ALL[kind].files:
        if key not in files:
            raise McspError(f"figure {kind}: give --file {key}=PATH, or --study, which finds it")
        wanted[key] = files[key]
        for path in [wanted[key]] if isinstance(wanted[key], Path) else wanted[key]:
            if not path.is_file():
                rule = f"figure_{kind.replace('-', '_')}"
                raise McspError(f"figure {kind}: {path} is not there: `snakemake {rule}` with this study makes it")
    about = {"task_name": task} if ALL[kind].per_task else {}
    import_module(module_of(kind)).run(**wanted, **about, out=out, options=options)


def parse_files(given: Sequence[str]) -> Files:
    """KEY=PATH entries by key; a list where a key has several files. Raises McspError on another form or an unknown key."""
    known = sorted({key for kind in ALL.values() for key in kind.files})
    found: dict[str, list[Path]] = {}
    for entry in given:
        key, separator, path = entry.partition("=")
        if not separator or key not in known:
            raise McspError(f"--file {entry}: give KEY=PATH, KEY one of {', '.join(known)}")
        found.setdefault(key, []).append(Path(path))
    return {key: paths if key in SEVERAL else paths[-1] for key, paths in found.items()}


def parse_names(names: Sequence[str], tasks: Sequence[str]) -> list[tuple[str, str | None]]:
    """(kind, task or None) of the named figures; a kind that a study has once per task, named without one, is all of them.

    Raises McspError on a name that no figure has.
    """
    found: list[tuple[str, str | None]] = []
    for name in names:
        of_task = [(kind, task) for kind in ALL if ALL[kind].per_task for task in tasks]
        own = [pair for pair in of_task if name in (pair[0], "-".join(pair))]
        if name in ALL and not ALL[name].per_task:
            own = [(name, None)]
        if not own:
            raise McspError(f"no figure is named {name}: give one of {', '.join(ALL)}, those of a task with -TASK or without")
        found += own
    return found
