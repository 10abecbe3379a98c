"""One shard of raw BOLD and T1w to derivatives, and a recordings table that says where they are.

Derivatives of a dataset lie in one BIDS directory that all its shards share. What is there already for equal inputs, options
and code is not made again, so a shard that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mcsp import __version__
from mcsp.bids.recordings import Index, preprocessed_bold, recordings_table, sidecar_of
from mcsp.code import code_version
from mcsp.errors import MACHINE_FAULTS, Exclusion, McspError
from mcsp.fingerprints import check_unchanged, fingerprint
from mcsp.options.embedded import EmbeddedOptions
from mcsp.options.fmriprep import FmriprepOptions, volumes
from mcsp.preprocess.embedded import run_anatomy, run_bold
from mcsp.preprocess.fmriprep import run_fmriprep
from mcsp.preprocess.qc import write_page
from mcsp.preprocess.space import SPACE, temporary_files_in
from mcsp.preprocess.work_dir import work_dir
from mcsp.shards import STATUS_COLUMNS, Outcome, work_through
from mcsp.store import read_json, read_table, write_json, write_table, write_tsv

STAGE = "preprocess-fmri"


def raw_key(rows: Sequence[dict], options: EmbeddedOptions) -> str:
    """Hash of all that a subject's derivatives depend on: raw files, sidecars, options, code."""
    inputs = [
        (r["path"], r["fingerprint"], r["t_r"], r["t1w"], fingerprint(Path(r["t1w"])), sidecar_of(Path(r["path"])))
        for r in rows
    ]
    parts = [inputs, options.model_dump(mode="json", exclude={"work_dir"}), code_version("mcsp.preprocess.embedded")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _made(row: dict, paths: Mapping[str, Path]) -> dict:
    """Row of the recordings table of what was made of the raw run `row`; JSON-able."""
    kept = {key: row[key] for key in ("uid", "modality", "session", "run", "task", "t_r")}
    return {**kept, "kind": "bold", **{key: str(path.resolve()) for key, path in paths.items()}}


def _finished(stamp: Path, key: str) -> dict | None:
    try:
        record = read_json(stamp) if stamp.is_file() else {}
    except McspError:  # damaged: as if it were not there
        return None
    if record.get("key") != key:
        return None
    files = [Path(row[name]) for row in record["rows"] for name in ("path", "mask", "confounds")]
    return record if all(file.is_file() for file in files) else None


@contextmanager
def faults_of_the_run(reasons: list[str], name: str) -> Iterator[None]:
    """What goes wrong with one run becomes a reason, so that the others go on; what is wrong with the machine (a full disk, a
    read-only directory) concerns everybody: McspError.
    """
    try:
        yield
    except McspError:
        raise
    except Exclusion as error:
        reasons.append(str(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
            raise McspError(f"preprocessing {name}: {error}: nobody can be preprocessed like this") from error
        print(f"{name}: unexpected error\n{traceback.format_exc()}", flush=True)
        reasons.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"[:500])


@contextmanager
def _scratch(out: Path, options: EmbeddedOptions) -> Iterator[Path]:
    """A directory of one subject's intermediate files, which is removed: in `options.work_dir`, or at its output's place."""
    place = work_dir("embedded", options.work_dir) if options.work_dir else out
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".part-{out.name}-", dir=place) as folder:
        yield Path(folder)


def _runs(rows: Sequence[dict], out: Path, options: EmbeddedOptions) -> tuple[list[dict], list[str]]:
    """(rows of the derivatives, reasons of the runs that can't be used). Raises Exclusion when none can."""
    made, reasons = [], []
    with _scratch(out, options) as scratch, temporary_files_in(scratch):
        for t1w in dict.fromkeys(row["t1w"] for row in rows):
            anatomy = None
            with faults_of_the_run(reasons, Path(t1w).name):
                anatomy = run_anatomy(Path(t1w), out, options, scratch)
            for row in rows if anatomy else []:
                if row["t1w"] == t1w:
                    with faults_of_the_run(reasons, Path(row["path"]).name):
                        sidecar = sidecar_of(Path(row["path"]))
                        made.append(_made(row, run_bold({**row, "sidecar": sidecar}, anatomy, out, options, scratch)))
    if not made:
        raise Exclusion("; ".join(dict.fromkeys(reasons)))
    return made, reasons


def _page(out: Path, label: str, reasons: Sequence[str], note: str | None) -> None:
    """The subject's page; a page that can't be drawn is no reason to leave anybody out."""
    try:
        write_page(out, label, reasons, note)
    except Exception:
        print(f"{label}: its page could not be drawn\n{traceback.format_exc()}", flush=True)


def embedded_subject(rows: list[dict], *, derivatives: Path, options: EmbeddedOptions, note: str | None) -> dict:
    """Derivatives of one subject's raw runs: {'rows': of the recordings table, 'reasons': of runs that can't be used}.

    A page says how it went, also when it failed. Raises Exclusion when no run can be used.
    """
    label = rows[0]["uid"].split("/")[1]
    out, stamp = derivatives / label, derivatives / "stamps" / f"{label}.json"
    key = raw_key(rows, options)
    if record := _finished(stamp, key):
        return record
    stamp.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        made, reasons = _runs(rows, out, options)
    except Exclusion as error:
        _page(out, label, [str(error)], note)
        raise
    _page(out, label, reasons, note)
    record = {"key": key, "rows": made, "reasons": reasons}
    write_json(stamp, record)
    return record


def fmriprep_subject(
    rows: list[dict], *, bids_dir: Path, derivatives: Path, options: FmriprepOptions, logs: Path, mem_mb: int, threads: int
) -> dict:
    """The same by fMRIPrep in a container, whose own pages say how it went. Raises Exclusion; McspError when the machine is at
    fault.
    """
    label = rows[0]["uid"].split("/")[1].removeprefix("sub-")
    place = {"bids_dir": bids_dir, "out_dir": derivatives, "label": label, "log": logs / f"sub-{label}.log"}
    run_fmriprep(options, **place, threads=threads, mem_mb=mem_mb)
    found = preprocessed_bold(Index(derivatives, [label]), volumes(options)[0])
    wanted = {Path(row["path"]).name.split("_bold")[0].split("_echo")[0]: row for row in rows}
    made, reasons = [], []
    for stem, row in wanted.items():
        own = [bold for bold in found.values() if bold["path"].name.startswith(f"{stem}_space-")]
        if own:
            paths = {"path": own[0]["path"], "confounds": Path(own[0]["confounds"]), "mask": Path(own[0]["mask"])}
            made.append(_made(row, {key: path for key, path in paths.items() if path.name}))
        else:
            reasons.append(f"fMRIPrep wrote nothing for {stem} in {volumes(options)[0]}: see its page")
    if not made:
        raise Exclusion("; ".join(reasons))
    return {"rows": made, "reasons": reasons}


def describe(derivatives: Path, name: str, note: str | None) -> None:
    """Write what makes the directory a BIDS derivative."""
    made = {"Name": "mcsp preprocess (embedded route)", "Version": __version__, "Description": f"ANTs; template {SPACE}"}
    title = f"Preprocessed BOLD of {name}" + (f" ({note})" if note else "")
    write_json(
        derivatives / "dataset_description.json",
        {"Name": title, "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [made]},
    )
    ignored = ("*.html", "stamps", "logs", "figures", "*_boldref.*", "*_desc-confounds_timeseries.*")
    (derivatives / ".bidsignore").write_text("".join(f"{name}\n" for name in ignored), encoding="utf-8")


def _work(
    route: EmbeddedOptions | FmriprepOptions, bids_dir: Path, derivatives: Path, note: str | None, mem_mb: int, threads: int
) -> Callable[[list[dict]], dict]:
    if isinstance(route, EmbeddedOptions):
        return partial(embedded_subject, derivatives=derivatives, options=route, note=note)
    place = {"bids_dir": bids_dir, "derivatives": derivatives, "logs": derivatives / "logs"}
    return partial(fmriprep_subject, **place, options=route, mem_mb=mem_mb, threads=threads)


def run(
    *,
    dataset: str,
    recordings: Path,
    options: EmbeddedOptions | FmriprepOptions,
    bids_dir: Path,
    derivatives: Path,
    out: Path,
    status: Path,
    note: str | None,
    mem_mb: int,
    threads: int,
) -> None:
    """Preprocess the raw BOLD of one shard into `derivatives` and write its recordings table at `out`: that of ingestion with
    each raw run replaced by what was made of it. Subjects of whom nothing is left stand in `status` with the reason.

    `options` say by which route. `mem_mb` and `threads`: what a container may take, one subject after the other; in the
    embedded route, so many subjects side by side. Raises McspError when the machine lacks what the route needs, or a
    recording is not the one that was ingested.
    """
    table = read_table(recordings)
    for row in table.to_dict("records"):
        check_unchanged(row)
    raw = table["kind"] == "raw"
    items = [(uid, rows.to_dict("records")) for uid, rows in table[raw].groupby("uid", sort=True)]
    embedded = isinstance(options, EmbeddedOptions)
    if items and embedded:
        derivatives.mkdir(parents=True, exist_ok=True)
        describe(derivatives, dataset, note)
    work = _work(options, bids_dir, derivatives, note, mem_mb, threads)
    workers = threads if embedded else 1
    outcomes = list(work_through(work, items, threads=workers, label=f"preprocessing {dataset}"))
    made = [row for outcome in outcomes if outcome.state == "done" for row in outcome.value["rows"]]
    write_table(recordings_table([*table[~raw].to_dict("records"), *made]), out)
    write_tsv(status_lines(dataset, table[~raw], outcomes), status, STATUS_COLUMNS)
    print(f"{dataset}: {len(made)} runs of {len(items)} subjects with raw BOLD: a page per subject in {derivatives}")


def status_lines(dataset: str, ready: pd.DataFrame, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Status of everybody with fMRI: who needed nothing is done; of who stays, a line for each run that can't be used."""
    lines = [(o.key, dataset, STAGE, o.state, o.reason) for o in outcomes]
    for outcome in outcomes:
        reasons = outcome.value["reasons"] if outcome.state == "done" else []
        lines += [(outcome.key, dataset, "preprocess-run", "excluded", " ".join(reason.split())) for reason in reasons]
    others = sorted(set(ready.loc[ready["modality"] == "fmri", "uid"]) - {o.key for o in outcomes})
    lines += [(uid, dataset, STAGE, "done", None) for uid in others]
    return pd.DataFrame(lines, columns=list(STATUS_COLUMNS))
