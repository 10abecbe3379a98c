"""The tiny simulated study, from its first rule to its last."""

import json

import pytest

from mcsp.store import Store, read_table, read_tsv

pytestmark = pytest.mark.slow


def test_report_is_one_self_contained_file(finished):
    html = (finished.results / "report.html").read_text()
    assert len(html) > 500_000
    for name in ("summary.html", "performance.svg", "fmri-map-asd.svg", "eeg-topography-asd.svg", "metrics.tsv"):
        assert name in html


def test_a_second_run_does_nothing(finished):
    assert "Nothing to be done" in finished.snakemake()


def test_every_figure_has_vector_bitmap_source_and_caption(finished):
    stems = {p.stem for p in (finished.results / "figures").glob("*.svg")}
    assert stems == {"cohort", "training", "embeddings", "performance", "curves-asd", "fmri-map-asd", "eeg-topography-asd"}
    for stem in stems:
        for suffix in (".png", ".tsv", ".json", ".caption.txt"):
            assert (finished.results / f"figures/{stem}{suffix}").stat().st_size > 0


def test_damaged_recordings_are_excluded_with_their_reason(finished):
    exclusions = read_tsv(finished.results / "cohort/exclusions.tsv")
    assert set(exclusions["stage"]) == {"fmri", "eeg"}
    assert exclusions["reason"].str.len().min() > 10
    assert (exclusions["state"] == "excluded").all()
    truncated = exclusions[exclusions["stage"] == "fmri"].iloc[0]
    assert "cut" in truncated["reason"]
    cohort = read_table(finished.results / "cohort/subjects.parquet").set_index("uid")
    row = cohort.loc[truncated["uid"]]
    assert not row["has_fmri"]
    assert row["has_eeg"]  # a bad run costs the run, not the subject


def test_stores_hold_the_cohort(finished):
    cohort = read_table(finished.results / "cohort/subjects.parquet")
    for modality, shape in (("fmri", (160, 60)), ("eeg", (40, 19, 200))):
        stores = [Store(p) for p in sorted((finished.results / "store").glob(f"*/{modality}/temporal/*.arrow"))]
        assert {store.shape for store in stores} == {shape}
        assert sorted(u for s in stores for u in s.uids) == sorted(cohort[cohort[f"has_{modality}"]]["uid"])


def test_predictions_cover_every_subject_once_per_method_from_its_test_fold(finished):
    splits = read_tsv(finished.results / "splits/splits.tsv")
    fold_of = splits[splits["part"] == "test"].set_index("uid")["fold"]
    predictions = read_table(finished.results / "evaluate/asd/predictions.parquet")
    assert {"mcsp", "phenotype"} <= set(predictions["method"])
    assert predictions["p"].between(0, 1).all()
    assert (predictions["uid"].map(fold_of) == predictions["fold"]).all()
    assert not predictions.duplicated(["method", "seed", "uid"]).any()


def test_pretraining_was_inductive_and_says_so(finished):
    for fold in (0, 1):
        record = json.loads((finished.results / f"pretrain/fold-{fold}/config.json").read_text())
        assert "inductive" in json.dumps(record)


def test_status_tells_what_is_done(finished):
    import subprocess
    import sys

    command = [sys.executable, str(finished.root / "src/mcsp"), "status", "config/studies/tiny.yaml"]
    done = subprocess.run(command, cwd=finished.root, capture_output=True, text=True, check=True)
    assert "asd" in done.stdout
    assert "excluded" in done.stdout


def test_every_job_left_a_log_and_a_benchmark(finished):
    logs = {p.relative_to(finished.results / "logs").with_suffix("") for p in finished.results.glob("logs/*/*.log")}
    benchmarks = {
        p.relative_to(finished.results / "benchmarks").with_suffix("") for p in finished.results.glob("benchmarks/*/*.tsv")
    }
    assert logs == benchmarks
    assert len(logs) > 30
