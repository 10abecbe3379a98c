"""Costs: read from the benchmarks of a run; planning a large study."""

import pytest

from mcsp.bench import dry_run, stage_costs
from mcsp.errors import McspError
from tests.conftest import PROJECT


def test_costs_are_summed_by_stage_and_the_largest_job_counts(tmp_path):
    for name, s, rss, cpu in (("fmri/a", 1.5, 100, 1.0), ("fmri/b", 2.5, 300, "-"), ("eeg/a", 4.0, 50, 3.0)):
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n9\t0\t9\t9\n{s}\t0:00:01\t{rss}\t{cpu}\n")  # the last try counts
    costs = stage_costs(tmp_path).set_index("stage")
    assert costs.loc["fmri"].to_dict() == {"jobs": 2, "wall_s": 4.0, "cpu_s": 1.0, "peak_mb": 300}
    assert costs.loc["eeg", "jobs"] == 1
    with pytest.raises(McspError, match="run the study first"):
        stage_costs(tmp_path / "nothing")


def test_planning_counts_jobs_by_shards_not_by_subjects():
    few = dry_run(snakefile=PROJECT / "Snakefile", n_subjects=20, n_datasets=2, n_shards=2)
    many = dry_run(snakefile=PROJECT / "Snakefile", n_subjects=80, n_datasets=2, n_shards=2)
    assert few["jobs"] == many["jobs"]
    assert dry_run(snakefile=PROJECT / "Snakefile", n_subjects=20, n_datasets=2, n_shards=3)["jobs"] == few["jobs"] + 2 * 7
