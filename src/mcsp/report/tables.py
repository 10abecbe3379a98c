"""Tables for a paper: one TSV for reading on, one LaTeX file (booktabs, longtable) to include, of the same numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mcsp.evaluation.calibration import CHANGE
from mcsp.evaluation.comparisons import best_method, over_subjects
from mcsp.evaluation.fusion import fusion_text
from mcsp.evaluation.subgroups import SHOWN
from mcsp.store import atomic_path, read_json, read_table, read_tsv, write_json, write_tsv

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\ensuremath{<}", ">": r"\ensuremath{>}",
}  # fmt: skip
GAP = "gap: best less worst"


@dataclass(frozen=True)
class PaperTable:
    """`rows`: numbers, with a description by column; `shown`: text of the same rows for print; `bold`: rows of `shown` whose
    cell in the column `emphasised` is printed bold, each with a test behind it.
    """

    name: str
    caption: str
    rows: pd.DataFrame
    descriptions: Mapping[str, str]
    shown: pd.DataFrame
    bold: frozenset[int] = field(default_factory=frozenset)
    emphasised: str = ""


def escaped(text: object) -> str:
    """Text that LaTeX prints as it stands."""
    plain = "".join(SPECIAL.get(letter, letter) for letter in str(text))
    return re.sub(r"(?<![\w.])-(?=\d)", r"\\ensuremath{-}", plain)  # a minus, not a hyphen


def _number(value: float, digits: int = 2) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _with_interval(row: pd.Series, name: str, digits: int = 2) -> str:
    if math.isnan(row[name]):
        return "n/a"
    return f"{row[name]:.{digits}f} [{_number(row[f'{name}_low'], digits)}, {_number(row[f'{name}_high'], digits)}]"


def _flat(name: str, ends: Sequence[float]) -> dict[str, float]:
    """A value and the ends of its interval, as columns."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends))


def _p(value: float) -> str:
    return "n/a" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def latex(table: PaperTable) -> str:
    """The table as a longtable with booktabs' rules."""
    numeric = [all(not cell or cell == "n/a" or cell[0] in "-<0123456789" for cell in table.shown[c]) for c in table.shown]
    head = ["\\toprule", " & ".join(escaped(c) for c in table.shown) + " \\\\", "\\midrule"]
    lines = [
        "% needs \\usepackage{booktabs,longtable}; made by mcsp, numbers in " + f"{table.name}.tsv",
        f"\\begin{{longtable}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        f"\\caption{{{escaped(table.caption)}}}\\label{{tab:{table.name}}}\\\\",
        *head,
        "\\endfirsthead",
        "\\caption[]{(continued)}\\\\",  # without the label, which each page would define anew
        *head,
        "\\endhead",
    ]
    for number, row in enumerate(table.shown.to_dict("records")):
        cells = {name: escaped(cell) for name, cell in row.items()}
        if number in table.bold:
            cells[table.emphasised] = f"\\textbf{{{cells[table.emphasised]}}}"
        lines.append(" & ".join(cells.values()) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{longtable}", ""])


def write(table: PaperTable, folder: Path) -> None:
    """Write `folder`/name.tsv, .json (columns and caption) and .tex."""
    path = folder / f"{table.name}.tsv"
    write_tsv(table.rows, path, table.descriptions)
    sidecar = path.with_suffix(".json")
    write_json(sidecar, {**read_json(sidecar), "Table": {"Description": table.caption}})
    with atomic_path(path.with_suffix(".tex")) as temporary:
        temporary.write_text(latex(table), encoding="utf-8")


PERFORMANCE = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "protocol": "How test subjects were set aside, and what pre-training saw",
    "n": "Test subjects, over all folds",
    "n_case": "Cases among them",
    "auroc": "Area under the ROC curve, pooled test subjects",
    "auroc_low": "Lower end of its bootstrap interval over subjects",
    "auroc_high": "Upper end of its bootstrap interval over subjects",
    "balanced_accuracy": "Mean of sensitivity and specificity at 0.5, pooled test subjects",
    "balanced_accuracy_low": "Lower end of its bootstrap interval over subjects",
    "balanced_accuracy_high": "Upper end of its bootstrap interval over subjects",
    "p_phenotype": "p of the AUROC against phenotype, site and motion alone (DeLong; Holm over the task's tests over subjects)",
    "against_phenotype": "better, worse, or not told apart, at 0.05 after correction",
    "p_chance": "p of the AUROC against chance (labels permuted within folds; Holm over the task's methods)",
    "best": "yes: its AUROC is better than that of every other method of the task after correction over all pairs (DeLong, "
    "Holm, 0.05); else no",
}


def performance(folder: Path, tasks: Sequence[str]) -> PaperTable:
    """Each task and method, from metrics.tsv, comparisons.tsv and pairs.tsv in `folder`/<task>."""
    rows = []
    for task in tasks:
        values = read_tsv(folder / task / "metrics.tsv")
        pairs = over_subjects(read_tsv(folder / task / "comparisons.tsv"))
        pairs = pairs[(pairs["rival"] == "phenotype") & (pairs["metric"] == "auroc")].set_index("method")
        best = best_method(read_tsv(folder / task / "pairs.tsv"))
        for method, own in values.groupby("method", sort=False):
            own = own.set_index("metric")
            row = {"task": task, "method": method, **own.iloc[0][["protocol", "n", "n_case"]]}
            for name in ("auroc", "balanced_accuracy"):
                row |= _flat(name, own.loc[name, ["value", "low", "high"]])
            if method in pairs.index:
                row |= {"p_phenotype": pairs.loc[method, "p_holm"], "against_phenotype": pairs.loc[method, "verdict"]}
            rows.append({**row, "p_chance": own.loc["auroc", "p_chance_holm"], "best": "yes" if method == best else "no"})
    table = pd.DataFrame(rows, columns=list(PERFORMANCE))
    against = ["" if pd.isna(p) else _p(p) + (" (worse)" if v == "worse" else "")
               for p, v in zip(table["p_phenotype"], table["against_phenotype"])]  # fmt: skip
    shown = pd.DataFrame(
        {
            "task": table["task"],
            "method": table["method"],
            "n": table["n"].astype(str),
            "cases": table["n_case"].astype(str),
            "AUROC": [_with_interval(row, "auroc") for _, row in table.iterrows()],
            "balanced accuracy": [_with_interval(row, "balanced_accuracy") for _, row in table.iterrows()],
            "p, phenotype": against,
            "p, chance": [_p(p) for p in table["p_chance"]],
            "protocol": table["protocol"],
        }
    )
    bold = frozenset(i for i, best in enumerate(table["best"]) if best == "yes")
    found = "Bold: better" if bold else "No method is bold: none is better"
    caption = (
        "Performance on test subjects of all folds, with bootstrap intervals over subjects. p, phenotype: AUROC against age, "
        "sex, site and head motion alone (DeLong's test, Holm-corrected over the task's tests over subjects). p, chance: AUROC "
        "against labels permuted within folds (Holm-corrected over the task's methods). "
        f"{found} in AUROC than every other method of the task (DeLong's test, Holm-corrected over all pairs, p < 0.05)."
    )
    return PaperTable("performance", caption, table, PERFORMANCE, shown, bold, "AUROC")


def comparisons(folder: Path, tasks: Sequence[str]) -> PaperTable:
    """Paired comparisons of all tasks."""
    parts = [read_tsv(folder / task / "comparisons.tsv") for task in tasks]
    texts = read_json(folder / tasks[0] / "comparisons.json")
    table = pd.concat(parts, ignore_index=True)
    ends = table.rename(columns={"low": "difference_low", "high": "difference_high"})
    shown = pd.DataFrame(
        {
            "task": table["task"],
            "method": table["method"],
            "against": table["rival"],
            "metric": table["metric"].str.replace("_", " ").replace("auroc", "AUROC"),
            "n": table["n"].astype(str),
            "difference": [_with_interval(row, "difference", 3) for _, row in ends.iterrows()],
            "test": [t if pd.isna(df) else f"{t}, df {df:.0f}" for t, df in zip(table["test"], table["df"])],
            "p": [_p(p) for p in table["p"]],
            "p, Holm": [_p(p) for p in table["p_holm"]],
            "verdict": table["verdict"],
        }
    )
    caption = (
        "Paired comparisons of methods on the test subjects that both predicted. delong, permutation: over subjects; "
        "nadeau-bengio: t test over folds, corrected for the overlap of their training parts. Holm's correction is over each "
        "task's tests over subjects and, apart from them, over its tests over folds."
    )
    return PaperTable("comparisons", caption, table, {c: texts[c]["Description"] for c in table}, shown)


COHORT = {
    "dataset": "Dataset; all: the whole cohort",
    "label": "Diagnostic labels as the study has them",
    "n": "Subjects",
    "n_fmri": "Subjects with fMRI",
    "n_eeg": "Subjects with EEG",
    "n_sites": "Sites",
    "age_mean": "Mean age in years, of those whose age is known",
    "age_sd": "Standard deviation of the age in years",
    "n_age": "Subjects whose age is known",
    "n_male": "Male subjects",
    "n_female": "Female subjects",
    "n_sex_unknown": "Subjects whose sex is not known",
    "sites": "Sites with their numbers of subjects",
}


def _people(own: pd.DataFrame) -> dict:
    age, counts = own["age"].astype(float).dropna(), own["site"].value_counts().sort_index()
    return {
        "n": len(own),
        "n_fmri": int(own["has_fmri"].sum()),
        "n_eeg": int(own["has_eeg"].sum()),
        "n_sites": int((own["dataset"] + "/" + own["site"]).nunique()),
        "age_mean": age.mean(),
        "age_sd": age.std(),
        "n_age": len(age),
        "n_male": int((own["sex"] == "M").sum()),
        "n_female": int((own["sex"] == "F").sum()),
        "n_sex_unknown": int((~own["sex"].isin(["M", "F"])).sum()),
        "sites": ", ".join(f"{site} {n}" for site, n in counts.items()),
    }


def characteristics(cohort: pd.DataFrame) -> PaperTable:
    """Who is in the study, by dataset and label."""
    groups = cohort.groupby(["dataset", "labels"], sort=True)
    rows = [{"dataset": dataset, "label": label or "unlabelled", **_people(own)} for (dataset, label), own in groups]
    table = pd.DataFrame([*rows, {"dataset": "all", "label": "all", **_people(cohort)}], columns=list(COHORT))
    table.loc[table.index[-1], "sites"] = ""
    sex = [f"{m}/{f}" + (f" ({u} not known)" if u else "") for m, f, u in table[["n_male", "n_female", "n_sex_unknown"]].values]
    ages = [
        f"{_number(mean, 1)} ({_number(sd, 1)})" + ("" if known == n else f", n = {known}")
        for mean, sd, known, n in table[["age_mean", "age_sd", "n_age", "n"]].itertuples(index=False)
    ]
    shown = pd.DataFrame(
        {
            "dataset": table["dataset"],
            "label": table["label"],
            "n": table["n"].astype(str),
            "fMRI": table["n_fmri"].astype(str),
            "EEG": table["n_eeg"].astype(str),
            "age, mean (SD)": ages,
            "male/female": sex,
            "sites": [f"{n}: {text}" if text else str(n) for n, text in zip(table["n_sites"], table["sites"])],
        }
    )
    return PaperTable("cohort", "Subjects after all exclusions. Age in years.", table, COHORT, shown)


SUBGROUPS = {
    "task": "Task of the study",
    "method": "Method",
    "grouping": "site, sex or age band",
    "group": f"Subgroup; '{GAP}': the difference between the best and the worst one",
    "n": "Test subjects of the subgroup, over all folds",
    "n_case": "Cases among them",
    "state": "scored, too few (fewer than five of a class), or the subgroups that the gap of the AUROC is between",
    **{
        f"{name}{end}": f"{name.replace('_', ' ')}{text}"
        for name in SHOWN
        for end, text in (("", ""), ("_low", ", lower end of the interval"), ("_high", ", upper end"))
    },
    "p_auroc": "p of the gap in AUROC, with subjects dealt to subgroups at random (Holm over the task's gaps)",
}


def _gap_row(own: pd.DataFrame) -> dict:
    """One line of the gaps of all metrics of one grouping."""
    own = own.set_index("metric")
    row = {"group": GAP, "p_auroc": own.loc["auroc", "p_holm"]}
    row["state"] = f"AUROC: {own.loc['auroc', 'best']} less {own.loc['auroc', 'worst']}"
    for name in SHOWN:
        row |= _flat(name, own.loc[name, ["gap", "low", "high"]])
    return row


def subgroups(folder: Path, tasks: Sequence[str]) -> PaperTable:
    """MCSP within sites, sexes and age bands, each followed by the gap."""
    rows = []
    for task in tasks:
        table, gaps = read_tsv(folder / task / "subgroups.tsv"), read_tsv(folder / task / "gaps.tsv")
        ours = table[table["method"].str.startswith("mcsp")]
        for (method, grouping), own in ours.groupby(["method", "grouping"], sort=False):
            rows += own.to_dict("records")
            gap = gaps[(gaps["method"] == method) & (gaps["grouping"] == grouping)]
            if len(gap):
                rows.append({"task": task, "method": method, "grouping": grouping, **_gap_row(gap)})
    table = pd.DataFrame(rows, columns=list(SUBGROUPS))
    table[["n", "n_case"]] = table[["n", "n_case"]].astype("Int64")
    scored = table["state"] != "too few"
    columns = {name: pd.Series([_with_interval(row, name) for _, row in table.iterrows()]) for name in SHOWN}
    shown = pd.DataFrame(
        {
            "task": table["task"],
            "grouping": table["grouping"],
            "group": table["group"],
            "n": ["" if pd.isna(n) else str(n) for n in table["n"]],
            "cases": ["" if pd.isna(n) else str(n) for n in table["n_case"]],
            **{
                name.replace("_", " ").replace("auroc", "AUROC"): values.where(scored, "too few")
                for name, values in columns.items()
            },
            "p, AUROC": ["" if pd.isna(p) else _p(p) for p in table["p_auroc"]],
        }
    )
    caption = (
        "MCSP within subgroups of the test subjects, with bootstrap intervals over subjects; subgroups with fewer than five "
        "subjects of a class are not scored. A gap is never below 0, so its p compares it with gaps of subjects dealt to "
        "subgroups at random within each class (Holm-corrected over groupings, metrics and methods of the task)."
    )
    return PaperTable("subgroups", caption, table, SUBGROUPS, shown)


def calibration(folder: Path, tasks: Sequence[str]) -> PaperTable:
    """Calibration error and Brier score of all methods; MCSP before and after the temperature."""
    table = pd.concat([read_tsv(folder / task / "calibration.tsv") for task in tasks], ignore_index=True)
    texts = read_json(folder / tasks[0] / "calibration.json")
    rows = []
    for (task, method, state), own in table.groupby(["task", "method", "state"], sort=False):
        ends = own.rename(columns={"low": "value_low", "high": "value_high"}).set_index("metric")
        error = ends.loc["calibration_error"]
        scores = [_with_interval(ends.loc[name], "value", 3) for name in ("calibration_error", "brier")]
        expected = "" if state == CHANGE else _number(error["expected"], 3)
        rows.append([task, method, state, str(error["n"]), scores[0], expected, scores[1]])
    columns = ["task", "method", "state", "n", "calibration error", "expected", "Brier score"]
    caption = (
        "Calibration of probabilities on test subjects (ten bins of equal width), with bootstrap intervals over subjects. "
        "expected: what a perfectly calibrated method would get with these subjects. temperature: logits divided by a "
        "temperature that was fitted on each fold's validation subjects; change: temperature less as it is."
    )
    descriptions = {c: texts[c]["Description"] for c in table}
    return PaperTable("calibration", caption, table, descriptions, pd.DataFrame(rows, columns=columns))


def _within(row: Mapping[str, Any]) -> str:
    """A variant's differences within folds."""
    spread = f" ± {_number(row['fold_sd'], 3)}" if row["n_folds"] > 1 else ""
    return f"{_number(row['fold_difference'], 3)}{spread}; {row['folds_above']:.0f} of {row['n_folds']}"


def ablations(sweep: Path) -> PaperTable:
    """Every variant of the study beside the whole model."""
    table, texts = read_tsv(sweep), read_json(sweep.with_suffix(".json"))
    whole = table["kind"] == "whole"
    shown = pd.DataFrame(
        {
            "task": table["task"],
            "varied": table["kind"],
            "to": table["variant"].astype(str),
            "n": table["n"].astype(str),
            "cases": table["n_case"].astype(str),
            "AUROC": [_with_interval(row, "auroc") for _, row in table.iterrows()],
            "difference": ["" if w else _number(d, 3) for w, d in zip(whole, table["difference"])],
            "p": ["" if w else _p(p) for w, p in zip(whole, table["p"])],
            "p, Holm": ["" if w else _p(p) for w, p in zip(whole, table["p_holm"])],
            "within folds": ["" if w else _within(row) for w, row in zip(whole, table.to_dict("records"))],
            "pre-training": table["scope"],
        }
    )
    caption = (
        "MCSP with one thing changed at a time, trained anew on the same folds, with bootstrap intervals over subjects. "
        "difference: AUROC less that of the whole model on the subjects that both predict (DeLong's test, Holm-corrected over "
        "the task's variants). within folds: that difference in each fold, mean ± standard deviation, and in how many folds it "
        "is above 0."
    )
    return PaperTable("ablations", caption, table, {c: texts[c]["Description"] for c in table}, shown)


def fusion(sweep: Path) -> PaperTable:
    """Single modalities against both."""
    path = sweep.with_name("fusion.tsv")
    table, texts = read_tsv(path), read_json(path.with_suffix(".json"))
    ends = table.rename(columns={"low": "difference_low", "high": "difference_high"})
    shown = pd.DataFrame(
        {
            "task": table["task"],
            "method": table["method"],
            "alone": table["single"],
            "n": table["n"].astype(str),
            "cases": table["n_case"].astype(str),
            "AUROC, both": [_with_interval(row, "fused") for _, row in table.iterrows()],
            "AUROC, alone": [_with_interval(row, "alone") for _, row in table.iterrows()],
            "difference": [_with_interval(row, "difference", 3) for _, row in ends.iterrows()],
            "p, Holm": [_p(p) for p in table["p_holm"]],
            "both are": table["verdict"],
        },
        dtype=str,
    )
    caption = (
        "Both modalities against each alone, on the test subjects of all folds that have both, with bootstrap intervals over "
        f"subjects (differences: DeLong's). {fusion_text(table)}"
    )
    return PaperTable("fusion", caption, table, {c: texts[c]["Description"] for c in table}, shown)


def run(*, results: Path, tasks: Sequence[str], note: str | None, out: Path, sweep: Path | None = None) -> None:
    """Write all tables to the directory `out`, from what the study's stages wrote below `results`. `note` ends every
    caption: it names simulated data. `sweep`: table of variants, once they ran.
    """
    of_tasks: list[Callable[[Path, Sequence[str]], PaperTable]] = [performance, comparisons, subgroups, calibration]
    tables = [make(results / "evaluate", tasks) for make in of_tasks]
    tables.append(characteristics(read_table(results / "cohort" / "subjects.parquet")))
    tables += [ablations(sweep), fusion(sweep)] if sweep else []
    for table in tables:
        caption = f"{table.caption} {note}." if note else table.caption
        write(PaperTable(**{**vars(table), "caption": caption}), out)
        print(f"{out / table.name}.tsv, .tex: {len(table.rows)} rows")
