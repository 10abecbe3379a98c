"""Ready studies, from the bucket to the tables of a paper, by the commands that a user types. Simulated recordings.

The other studies go the same way by hand, as they take minutes: tests/fetch/run_cohorts.py.
"""

import io

import numpy as np
import pandas as pd
import yaml

from mcsp.workflow import overlay
from tests.fetch import run_cohorts, simulated
from tests.fetch.bucket_server import Bucket, serve
from tests.fetch.mirrors import INDI, at_mirror, table
from tests.workflow.conftest import checkout  # noqa: F401

SMALL = {
    "fmri": {"n_frames": 60, "min_frames": 40},
    "splits": {"n_folds": 2},
    "pretrain": {"epochs": 1, "batch_size": 16, "model": {"width": 8, "depth": 1, "dim": 8}},
    "finetune": {"epochs": 1, "seeds": [0]},
    "evaluate": {"rivals": ["phenotype", "linear"], "n_bootstrap": 100, "n_permutations": 100},
}


def series(codes: list[str], case: bool, rng: np.random.Generator) -> bytes:
    """Slow noise (70 frames) of regions, a third of which move together in cases only."""
    noise = rng.normal(size=(70, len(codes))).cumsum(axis=0) * 0.3 + rng.normal(size=(70, len(codes)))
    if case:
        noise[:, : len(codes) // 3] += 3 * rng.normal(size=(70, 1))
    buffer = io.StringIO()
    pd.DataFrame(noise, columns=[f"#{code}" for code in codes]).to_csv(buffer, sep="\t", index=False)
    return buffer.getvalue().encode()


def mirror(codes: list[str], n: int = 24) -> dict[str, bytes]:
    """ABIDE I's series and table as the Preprocessed Connectomes Project has them."""
    rng, root = np.random.default_rng(0), f"{INDI}/ABIDE_Initiative"
    ids, cases = [50002 + i for i in range(n)], [i % 2 == 0 for i in range(n)]
    sites = ["NYU" if i % 4 < 2 else "UM_1" for i in range(n)]
    found = {
        f"{root}/Outputs/cpac/filt_noglobal/rois_ho/{site}_00{label}_rois_ho.1D": series(codes, case, rng)
        for label, site, case in zip(ids, sites, cases)
    }
    columns = {
        "SUB_ID": ids,
        "SITE_ID": sites,
        "DX_GROUP": [2 - case for case in cases],
        "func_mean_fd": rng.uniform(0.05, 0.3, n),
    }
    columns |= {"AGE_AT_SCAN": rng.uniform(7, 40, n), "SEX": rng.integers(1, 3, n)}
    return {**found, f"{root}/Phenotypic_V1_0b_preprocessed1.csv": table(",", **columns)}


def test_abide_s_series_from_the_bucket_to_the_tables(checkout):  # noqa: F811
    study = "config/studies/abide-roi.yaml"
    codes = pd.read_csv(checkout.root / "config/atlases/harvard_oxford_cpac.tsv", sep="\t", dtype=str)["code"].tolist()
    with serve(Bucket(mirror(codes), page=50)) as bucket:
        values = overlay(at_mirror("abide-roi", bucket.url, n_shards=1), SMALL)
        (checkout.root / study).write_text(yaml.safe_dump(values))
        assert "abide: 25 files of 24 subjects" in checkout.snakemake("fetch", study=study)
    checkout.snakemake("tables", study=study)
    results = checkout.root / "results/abide-roi"
    metrics = pd.read_csv(results / "evaluate/asd/metrics.tsv", sep="\t", na_values="n/a")
    auroc = metrics[metrics["metric"] == "auroc"].set_index("method")["value"]
    (linear,) = auroc[auroc.index.str.startswith("linear")]
    assert linear > 0.9 > auroc["phenotype"]  # the planted effect is in the connectivity
    assert metrics["n"].eq(24).all()
    assert list((results / "tables").glob("*.tex"))


def test_hbn_from_the_buckets_to_the_tables(checkout):  # noqa: F811
    """EEG of the 128-channel net and raw BOLD of the same children, of two buckets, and diagnoses that came by hand."""
    container = simulated.Container(checkout.root / "container")
    changes = {
        **run_cohorts.SMALL,
        **{"preprocess": "fmriprep", "fmriprep": container.options, "tasks": {"asd": {"case": ["ASD"], "title": "ASD"}}},
    }
    run_cohorts.by_hand(checkout, "hbn", container)
    objects = simulated.hbn(container, 16, 10, sfreq=250.0)
    checked = run_cohorts.run(checkout, "hbn", "tables", objects, changes)
    assert "\n0 errors" in checked
    results = checkout.root / "results/hbn"
    people = pd.read_csv(results / "cohort/subjects.tsv", sep="\t", na_values="n/a").set_index("subject")
    assert people[["has_eeg", "has_fmri"]].sum().tolist() == [16, 10]
    assert people["labels"].str.contains("MDD").sum() == 4  # kept for pre-training
    assert people["spline_error"].between(0.01, 0.6).all()
    metrics = pd.read_csv(results / "evaluate/asd/metrics.tsv", sep="\t", na_values="n/a")
    assert metrics["n"].eq(8).all()
    assert {"mcsp", "phenotype"} <= set(metrics["method"])
    assert list((results / "tables").glob("*.tex"))
