"""Tables beyond the metrics: with repeats they speak of subjects, each of them once."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mcsp.evaluation import statistics
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_tsv, write_table


def test_repeats_count_every_subject_once_in_every_table(tmp_path):
    rng, n = np.random.default_rng(0), 80
    y, uid = np.arange(n) % 2, np.array([f"a/sub-{i:02d}" for i in range(n)])
    people = {"uid": uid, "dataset": "a", "site": np.where(np.arange(n) % 4 < 2, "x", "y"), "age": rng.uniform(8, 40, n)}
    write_table(pd.DataFrame({**people, "sex": rng.choice(["M", "F"], n)}), tmp_path / "cohort.parquet")
    rows, passes, chosen = [], [], []
    for repeat in range(3):
        fold = 2 * repeat + rng.permutation(n) % 2
        for method, strength in (("mcsp", 0.4), ("phenotype", 0.1)):
            p = strength * y + rng.random(n) * 0.6
            rows.append(pd.DataFrame({"method": method, "fold": fold, "seed": 0, "uid": uid, "y": y, "p": p}))
        own = {"fold": fold, "seed": 0, "uid": uid, "y": y, "p": rng.random(n)}
        passes.append(pd.DataFrame({**own, "mean_entropy": 0.1, "n_passes": 5}))
        chosen.append(pd.DataFrame({**own, "fold": 4 * repeat + 1 - fold}))  # the repeat's other fold
    for name, tables in (("predictions", rows), ("dropout", passes), ("validation", chosen)):
        write_table(pd.concat(tables, ignore_index=True), tmp_path / f"{name}.parquet")
    files = {name: tmp_path / f"{name}.parquet" for name in ("predictions", "dropout", "validation", "cohort")}
    options = EvaluateOptions(n_bootstrap=20, n_permutations=20)
    statistics.run(**files, task_name="t", options=options, out=tmp_path / "out")
    tables = {path.stem: read_tsv(path) for path in (tmp_path / "out").glob("*.tsv")}
    assert tables["temperatures"]["fold"].tolist() == list(range(6))
    for name in ("calibration", "selective", "pairs"):
        assert set(tables[name]["n"]) == {n}, name
    assert (tables["subgroups"].groupby(["method", "grouping"])["n"].sum() == n).all()
    assert tables["uncertainty"]["uid"].tolist() == sorted(uid)
    assert set(tables["uncertainty"]["n_passes"]) == {15}
