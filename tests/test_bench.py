"""Costs: read from the benchmarks of a run; planning a large study; beside other ways."""

import json
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mcsp import bench_cohort, bench_cost, bench_pretrain, bench_scale
from mcsp.bench import measure_side, run_measured, stage_costs
from mcsp.bench_parcellate import FULL, SMALL, show, write_run
from mcsp.cli import app
from mcsp.errors import McspError
from mcsp.fmri.parcellate import volumes
from mcsp.store import read_table
from mcsp.study import read_yaml
from mcsp.training.data import Subjects
from tests.conftest import PROJECT


def test_costs_are_summed_by_stage_and_the_largest_job_counts(tmp_path):
    for name, s, rss, cpu in (("fmri/a", 1.5, 100, 1.0), ("fmri/b", 2.5, 300, "-"), ("eeg/a", 4.0, 50, 3.0)):
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n9\t0\t9\t9\n{s}\t0:00:01\t{rss}\t{cpu}\n")  # the last try counts
    costs = stage_costs(tmp_path).set_index("stage")
    assert costs.loc["fmri"].to_dict() == {"jobs": 2, "wall_s": 4.0, "cpu_s": 1.0, "peak_mb": pytest.approx(300 * 1.048576)}
    assert costs.loc["eeg", "jobs"] == 1
    with pytest.raises(McspError, match="run the study first"):
        stage_costs(tmp_path / "nothing")


def test_a_command_s_cost_is_its_own():
    """Neither what this process holds nor another unit."""
    held = np.ones(int(3e8), np.uint8)
    text, cost = run_measured("x", [sys.executable, "-c", "x = bytearray(b'1') * 100_000_000; print(len(x), end='')"])
    assert (held.nbytes, text) == (3e8, "100000000")
    assert 100 < cost.mb < 150
    assert 0 < cost.cpu_s < cost.s + 1
    with pytest.raises(McspError, match=r"^x failed: a reason$"):
        run_measured("x", [sys.executable, "-c", "import sys; sys.exit('a reason')"])
    with pytest.raises(McspError, match=r"^x failed: killed$"):
        run_measured("x", ["sh", "-c", "kill -9 $$"])


def test_a_side_that_fails_is_named():
    with pytest.raises(McspError, match=r"^bench_parcellate, nothing failed: .*KeyError: 'nothing'$"):
        measure_side("bench_parcellate", "nothing", "nowhere")


def test_planning_counts_jobs_by_shards_not_by_subjects(tmp_path):
    study = read_yaml(PROJECT / "config/studies/scale.yaml")
    study["datasets"] = {name: {**study["datasets"][name], "n_shards": 2} for name in ("treatment", "autism", "resting")}
    (tmp_path / "small.yaml").write_text(json.dumps(study))
    arguments = ["bench", "scale", str(tmp_path / "small.yaml"), "--json", "--snakefile", str(PROJECT / "Snakefile")]
    few, many = (
        json.loads(CliRunner().invoke(app, [*arguments, "--subjects", n, rival]).stdout)
        for n, rival in (("12", "--no-rival"), ("36", "--rival"))
    )
    assert few["jobs"] == many["jobs"] > 100
    assert many["one_more_shards"] == 7  # ingestion, and three stages of each modality
    assert many["one_more_jobs"] < many["jobs"]
    assert many["per_subject_jobs"] == 13 * 6 + 12 * 3 + 12 * 3 + 1  # the subject that was added is among them
    assert many.keys() == bench_scale.ROWS.keys()
    bench_scale.show(many)


def test_jobs_on_a_whole_cohort_are_measured_as_it_grows(capsys):
    """The real commands, on tables as the stages before them write them."""
    costs = bench_cohort.measure(sizes=[240])
    assert list(costs["job"]) == list(bench_cohort.JOBS)
    assert costs["mb"].between(50, 1000).all()
    bench_cohort.show(costs)
    assert "240, MB" in capsys.readouterr().out


def test_a_subject_costs_what_two_shards_differ_by(capsys):
    """Real jobs on small recordings; their memory does not grow with the subjects of a shard."""
    costs = bench_cost.measure(small=True, modalities=("fmri",), training=False)
    assert list(costs["stages"]) == ["fmri", "connectivity-fmri", "spectra-fmri"]
    for row in costs["stages"].values():
        assert row["cpu_s"] >= bench_cost.LEAST
        assert row["start_s"] > 0.1
        assert 50 < row["mb_few"] < 1.2 * row["mb"]
    assert costs["store_mb"]["fmri"] == pytest.approx(4e-6 * 160 * (40 + 160 + 21), rel=0.1)
    bench_cost.show(costs)
    assert capsys.readouterr().out.count("n/a") == 2 * 5  # training was not asked for; here and on a GPU


def test_whole_cohorts_are_people_times_costs():
    stages = {key: {"cpu_s": 0.0} for key in bench_cost.STAGES} | {"fmri": {"cpu_s": 2.0}, "spectra-eeg": {"cpu_s": 1.0}}
    sizes = {"recording_mb": {"fmri": 100.0, "eeg": 10.0}, "store_mb": {"fmri": 1.0, "eeg": 2.0}}
    training = {"device": "cpu", "cpu_s": 0.5, "s": 9.0, "gflop": 3.0}
    table = bench_cost.project({"stages": stages, **sizes, "training": training}).set_index("cohort")
    assert table.loc["EMBARC", "core_hours"] == pytest.approx(335 * 3 / 3600)
    assert table.loc["EMBARC", "input_tb"] == pytest.approx(335 * 110e-6)
    assert table.loc["ADHD-200", "training_hours"] == pytest.approx(973 * 0.7 * 60 * 5 * 0.5 / 3600)
    assert table.loc["ADHD-200", "gpu_hours"] == pytest.approx(973 * 0.7 * 60 * 5 * 3e9 / bench_cost.GPU_FLOPS / 3600)
    assert table.loc["all", "people"] == sum(max(own.values()) for own in bench_cost.CORPORA.values())


def test_both_sides_of_the_parcellation_agree(capsys):
    done = CliRunner().invoke(app, ["bench", "parcellate", "--small", "--json", "--repeat", "1"])
    costs = json.loads(done.stdout)
    assert costs["shape"] == list(SMALL)
    assert costs["max_difference"] < 1e-3
    assert costs["regions"] > 100
    seconds = [costs[f"{name}_s"] for name in ("nilearn", "ours", "gunzip", "gzip")]
    assert min(seconds) > 0
    assert costs["ratio"] == pytest.approx(seconds[0] / seconds[1], rel=0.1)
    assert min(costs["peak_mb"], costs["nilearn_peak_mb"], costs["gunzip_peak_mb"]) > 10
    assert 0 < costs["mb_gz"] < costs["mb_raw"] == pytest.approx(4e-6 * np.prod(SMALL), rel=0.01)
    assert set(costs) > {"gunzip_ratio", "repeat"}
    show(costs)
    assert "standard deviations" in capsys.readouterr().out


def test_the_simulated_run_looks_like_one(tmp_path):
    write_run(tmp_path / "run.nii.gz", (20, 24, 19, 12))
    data = np.stack([volume.copy() for volume in volumes(tmp_path / "run.nii.gz")])
    outside = (data == 0).all(axis=0)
    assert 0.5 < outside.mean() < 0.9
    inside = data[:, ~outside]
    assert 400 < np.median(inside) < 1100
    assert 0.005 < np.median(inside.std(axis=0)) / np.median(inside) < 0.03
    assert np.prod(FULL) * 4 == 880_308_000


def test_training_is_measured_beside_the_plain_way(capsys):
    sizes = ["--subjects", "8", "--batch-size", "4", "--steps", "1", "--fmri", "6", "24", "--eeg", "5", "4", "50"]
    done = CliRunner().invoke(app, ["bench", "pretrain", "--json", "--device", "cpu", *sizes])
    costs = json.loads(done.stdout)
    assert costs["device"].startswith("CPU")
    assert (costs["n_subjects"], costs["batch_size"]) == (8, 4)
    assert (costs["fmri"], costs["eeg"]) == ([6, 24], [5, 4, 50])
    assert costs["ratio"] == pytest.approx(costs["plain_s"] / costs["ours_s"], rel=0.01)
    assert costs["joint_ratio"] == pytest.approx(costs["joint_s"] / costs["ours_s"], rel=0.01)
    assert costs["subjects_per_s"] == pytest.approx(8 / costs["ours_s"], rel=0.01)
    assert costs["floor_s"] == max(costs["floor_bytes_s"], costs["floor_flops_s"]) > 0
    assert all(costs[f"{side}_cpu_s"] > 0 for side in bench_pretrain.SIDES)
    assert min(costs["peak_mb"], costs["bandwidth_gb_s"], costs["matmul_gflop_s"]) > 0
    assert costs["kernel_share"] is costs["device_peak_mb"] is None  # on a GPU only
    bench_pretrain.show(costs)
    assert "subjects/s" in capsys.readouterr().out


def test_both_sides_of_the_training_bench_read_the_same_recordings(tmp_path):
    bench = bench_pretrain.Bench(n_subjects=40, batch_size=8, steps=1, device="cpu", fmri=(4, 90), eeg=(3, 2, 90))
    bench_pretrain.write_corpus(tmp_path, bench)
    cohort = read_table(tmp_path / "cohort.parquet")
    both = cohort["has_fmri"] & cohort["has_eeg"]
    assert both.mean() == 0.5
    assert (cohort["has_fmri"] | cohort["has_eeg"]).all()
    ours = Subjects(tmp_path / "store", cohort, list(cohort["uid"]), list(bench.shapes)).collate(range(40))
    plain = bench_pretrain.PlainDataset(tmp_path, bench)
    for i in (0, 1, 3, 39):
        x, view, present, _ = plain[i]
        assert {m: bool(v) for m, v in present.items()} == {m: bool(v[i]) for m, v in ours.present.items()}
        for key, value in x.items():
            assert torch.equal(value, ours.x[key][i])
            assert torch.equal(view[key], value) == (key[0] not in bench.has(i))
