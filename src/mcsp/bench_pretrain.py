"""Pre-training beside the plain way of writing it: the same model, corpus and views, side by side in one run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from mcsp.bench import measure_side
from mcsp.model.augment import Augmentation, augmented
from mcsp.model.batch import Batch, Key
from mcsp.model.losses import LossWeights, mcsp_losses
from mcsp.model.mcsp import MCSP
from mcsp.options.training import EngineOptions, LossOptions, PretrainOptions

FMRI, EEG = (100, 120), (125, 62, 200)  # regions x frames; segments x channels x samples
DISTINCT = 32  # subjects drawn at random; a larger corpus holds them again, under other names
WORKERS = 4  # of the plain way, at most: each holds two batches, of 5 GB each where they are of 256 subjects
SIDES = {
    "ours": "mcsp",
    "all": "mcsp, with the distillation, which the others have not",
    "plain": "plain, one loss at a time",
    "joint": "plain, all losses on one pair of forwards",
}


class Bench(BaseModel):
    """What is measured. `steps`: timed steps at least; whole epochs are timed, after one that is not."""

    n_subjects: int
    batch_size: int
    steps: int
    device: str
    precision: str = "32"
    compile: bool = False
    data: str = "auto"
    fmri: tuple[int, int] = FMRI
    eeg: tuple[int, int, int] = EEG

    @property
    def shapes(self) -> dict[Key, tuple[int, ...]]:
        """Inputs by modality and domain."""
        (r, t), (s, c, n) = self.fmri, self.eeg
        return {
            ("fmri", "spatial"): (r, r), ("fmri", "temporal"): (r, t), ("fmri", "spectral"): (r, t // 2 + 1),
            ("eeg", "spatial"): (4, c, c), ("eeg", "temporal"): (s, c, n), ("eeg", "spectral"): (s, c, n // 2 + 1),
        }  # fmt: skip

    def has(self, i: int) -> tuple[str, ...]:
        """Modalities of subject `i`: half of all have both, a quarter each has one."""
        return (("fmri", "eeg"), ("fmri",), ("fmri", "eeg"), ("eeg",))[i % 4]

    def options(self, kd: float = 0.0) -> PretrainOptions:
        """The study file's options of such a run; by default without the distillation, which the plain way has not."""
        engine = EngineOptions(precision=self.precision, compile=self.compile, data=self.data)
        return PretrainOptions(batch_size=self.batch_size, engine=engine, loss=LossOptions(kd=kd))

    @property
    def epochs(self) -> int:
        """Epochs that are timed."""
        return -(-self.steps * self.batch_size // self.n_subjects)

    def model(self) -> MCSP:
        """The model, with the study file's default sizes."""
        sizes = self.options().model.model_dump(exclude={"modalities", "domains"})
        torch.manual_seed(0)
        return MCSP({"architecture": {**sizes, "shapes": {"/".join(key): shape for key, shape in self.shapes.items()}}})


def _recording(rng: np.random.Generator, key: Key, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.standard_normal(shape, np.float32)
    if key[1] == "spatial":
        return 0.2 * (x + np.swapaxes(x, -1, -2)) * (1 - np.eye(shape[-1], dtype=np.float32))
    return np.abs(x) if key[1] == "spectral" else x


def write_corpus(folder: Path, bench: Bench) -> None:
    """Write made-up recordings twice: as the workflow's stores with a cohort table, and as one .npy per subject and domain."""
    from mcsp.cohort import store_path
    from mcsp.store import StoreWriter, write_table

    n = bench.n_subjects
    rows = [
        {"uid": f"made/sub-{i:05d}", "dataset": "made", "shard": 0, **{f"has_{m}": m in bench.has(i) for m in ("fmri", "eeg")}}
        for i in range(n)
    ]
    write_table(pd.DataFrame(rows), folder / "cohort.parquet")
    for key, shape in bench.shapes.items():
        rng = np.random.default_rng(0)
        drawn = [_recording(rng, key, shape) for _ in range(min(n, DISTINCT))]
        files = folder / "npy" / "_".join(key)
        files.mkdir(parents=True)
        for i, x in enumerate(drawn):
            np.save(files / f"{i}.npy", x)
        with StoreWriter(store_path(folder / "store", "made", *key, 0), shape, {"note": "made up"}) as writer:
            for i in range(n):
                if key[0] in bench.has(i):
                    writer.add(rows[i]["uid"], drawn[i % DISTINCT], shape[0] if key[0] == "eeg" else bench.fmri[1])


class PlainDataset(torch.utils.data.Dataset):
    """One subject at a time, as one would first write it: .npy files read whole, zeros where a modality is missing, the
    view made on the CPU in a worker of the DataLoader. The views are ours, for a batch of one.
    """

    def __init__(self, folder: Path, bench: Bench):
        self.folder, self.bench, self.strength = folder / "npy", bench, Augmentation()

    def __len__(self) -> int:
        return self.bench.n_subjects

    def __getitem__(self, i: int) -> tuple[dict, dict, dict, dict]:
        own = self.bench.has(i)
        x = {}
        for key, shape in self.bench.shapes.items():
            path = self.folder / "_".join(key) / f"{i % DISTINCT}.npy"
            x[key] = torch.from_numpy(np.load(path)) if key[0] in own else torch.zeros(shape)
        present = {m: torch.tensor(m in own) for m in ("fmri", "eeg")}
        n_valid = {"fmri": torch.tensor(self.bench.fmri[1]), "eeg": torch.tensor(self.bench.eeg[0])}
        seed = int(torch.randint(2**31, ()))  # of the worker's own stream
        alone = Batch({key: value[None] for key, value in x.items()}, present, n_valid)
        view = augmented(alone, self.strength, torch.Generator().manual_seed(seed), {})
        return x, {key: value[0] for key, value in view.x.items()}, present, n_valid


def plain(folder: Path, bench: Bench, *, joint: bool) -> dict[str, float]:
    """Seconds of the timed epochs, the plain way: DataLoader with a worker per core (at most WORKERS) in random order, each
    loss with its own forward and backward (with `joint` all on one pair of forwards and one backward), AdamW, gradients
    clipped.
    """
    device = torch.device(bench.device)
    data = torch.utils.data.DataLoader(
        PlainDataset(folder, bench), bench.batch_size, shuffle=True, persistent_workers=True,
        num_workers=min(WORKERS, len(os.sched_getaffinity(0))), pin_memory=device.type == "cuda",
    )  # fmt: skip
    model = bench.model().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    kinds = [LossWeights()] if joint else [LossWeights(**{**NONE, kind: 1.0}) for kind in NONE]
    for epoch in range(1 + bench.epochs):
        if epoch == 1:
            started, cpu = _now(device), _cpu_s()
        for x, view, present, n_valid in data:
            batch, other = Batch(x, present, n_valid).to(device), Batch(view, present, n_valid).to(device)
            optimizer.zero_grad()
            for weights in kinds:
                with torch.autocast(device.type, torch.bfloat16, enabled=bench.precision == "bf16"):
                    z = model(batch)[1]
                    z_view = model(other)[1] if weights.id else z
                    mcsp_losses(z, z_view, batch.present, weights)["total"].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return {"seconds": (_now(device) - started) / bench.epochs, "cpu": (_cpu_s() - cpu) / bench.epochs}


NONE = dict.fromkeys(("id", "cd", "im", "cm", "cf"), 0.0)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _cpu_s() -> float:
    """CPU seconds so far of this process, its threads and its workers. They hardly depend on who else computes here."""
    tick, total = os.sysconf("SC_CLK_TCK"), time.process_time()
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / tick  # user and system time
    return total


def ours(folder: Path, bench: Bench, kd: float = 0.0) -> dict[str, float | None]:
    """Seconds of an epoch by the workflow's own engine and until its first step; on a GPU the share of time in kernels.
    `kd`: weight of the distillation.
    """
    import lightning as L

    from mcsp.store import read_table
    from mcsp.training.data import PairedSampler, Subjects
    from mcsp.training.engine import History, make_trainer
    from mcsp.training.pretrain import Pretraining, make_feed

    device, marks, options = torch.device(bench.device), {}, bench.options(kd)

    class Clock(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            marks.setdefault("first", _now(device))

        def on_train_epoch_start(self, trainer, module):
            marks[trainer.current_epoch] = _now(device)
            if trainer.current_epoch == 1:
                marks["cpu"] = _cpu_s()

        def on_train_end(self, trainer, module):
            marks["end"], marks["cpu end"] = _now(device), _cpu_s()

    cohort = read_table(folder / "cohort.parquet")
    subjects = Subjects(folder / "store", cohort, list(cohort["uid"]), list(bench.shapes))
    sampler = PairedSampler(subjects.has, bench.batch_size, 0)
    feed = make_feed(subjects, sampler, options)
    feed.device = device
    module = Pretraining(bench.model(), options, (1 + bench.epochs) * len(sampler), History())
    if bench.compile:
        module.model.compile_parts()
    make_trainer(1 + bench.epochs, [Clock()], options.engine).fit(module, feed)
    seconds = (marks["end"] - marks[1]) / bench.epochs
    found = {
        "seconds": seconds,
        "cpu": (marks["cpu end"] - marks["cpu"]) / bench.epochs,
        "start_s": marks["first"] - marks[0],
        "kernel_share": None,
        "device_peak_mb": None,
    }
    if device.type == "cuda":
        found["device_peak_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
        feed.batch_sampler = list(sampler)[:20]
        found["kernel_share"] = _kernel_share(lambda: make_trainer(1, [Clock()], options.engine).fit(module, feed), marks)
    return found


def _kernel_share(train, marks: dict) -> float:
    """Time of all kernels over wall time, from the first step of some more steps to their end."""
    marks.clear()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        train()
    found = (event for event in profile.key_averages() if not event.is_user_annotation)  # these are spans, not kernels
    kernels = sum(event.self_device_time_total for event in found) / 1e6
    return kernels / (marks["end"] - marks["first"])


def _best(work, device: torch.device, repeat: int = 5) -> float:
    work()
    times = []
    for _ in range(repeat):
        started = _now(device)
        work()
        times.append(_now(device) - started)
    return min(times)


def flop_per_subject(folder: Path, bench: Bench) -> float:
    """FLOPs of a subject in a step, counted by torch: forward of input and view, backward; the mean of four, the period of
    `Bench.has`.
    """
    from torch.utils.flop_counter import FlopCounterMode

    data, model = PlainDataset(folder, bench), bench.model()
    x, view, present, n_valid = torch.utils.data.default_collate([data[i] for i in range(4)])
    with FlopCounterMode(display=False) as counter:
        z, z_view = (model(Batch(part, present, n_valid))[1] for part in (x, view))
        mcsp_losses(z, z_view, present, LossWeights())["total"].backward()
    return counter.get_total_flops() / 4


def floor(folder: Path, bench: Bench) -> dict[str, float]:
    """What an epoch can't be faster than on this machine: each input read once, at the measured bandwidth of a copy; and
    the step's FLOPs at the measured rate of a matrix product.
    """
    device = torch.device(bench.device)
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if bench.precision == "bf16" else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype)
    block, target = (torch.zeros((64 if device.type == "cpu" else 512) << 18, device=device) for _ in range(2))
    bandwidth = 2 * block.nbytes / _best(lambda: target.copy_(block), device)
    rate = 2 * side**3 / _best(lambda: a @ a, device)
    size = sum(4 * int(np.prod(s)) * (key[0] in bench.has(i)) for i in range(4) for key, s in bench.shapes.items()) / 4
    flop = flop_per_subject(folder, bench)
    return {
        "gflop": flop / 1e9,  # of a subject in one epoch, on average
        "floor_bytes_s": size * bench.n_subjects / bandwidth,
        "floor_flops_s": flop * bench.n_subjects / rate,
        "bandwidth_gb_s": bandwidth / 1e9,
        "matmul_gflop_s": rate / 1e9,
    }


def side(name: str, folder: str, text: str) -> dict[str, float | None]:
    """Do one side's work on the corpus in `folder`; gives what it found."""
    import warnings

    warnings.simplefilter("ignore")
    bench = Bench.model_validate_json(text)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    work = {
        "ours": ours,
        "all": lambda *a: ours(*a, kd=1.0),
        "plain": lambda *a: plain(*a, joint=False),
        "joint": lambda *a: plain(*a, joint=True),
        "floor": floor,
    }[name]
    with redirect_stdout(sys.stderr):
        return work(Path(folder), bench)


def _measure(name: str, folder: Path, bench: Bench) -> dict[str, float]:
    before = "import mcsp.training" if name in ("ours", "all") else ""  # its settings come before torch, as in `mcsp pretrain`
    settings = {"OMP_WAIT_POLICY": "PASSIVE"}  # as the workflow has it, for all sides: on a shared machine most of the time
    settings |= {"CUDA_VISIBLE_DEVICES": ""} if bench.device == "cpu" else {}
    arguments = ("bench_pretrain", name, str(folder), bench.model_dump_json())
    return measure_side(*arguments, before=before, cwd=folder, env={**os.environ, **settings})


def alone(folder: Path, bench: Bench) -> dict[str, float]:
    """Our side alone, on a corpus written to `folder`: `seconds` and `cpu` s of one epoch, `gflop` of a subject in it, and
    more. Raises McspError.
    """
    write_corpus(folder, bench)
    return {**_measure("ours", folder, bench), "gflop": flop_per_subject(folder, bench) / 1e9}


def _rounds(folder: Path, bench: Bench, repeat: int) -> Iterator[dict[str, dict]]:
    for _ in range(repeat):
        yield {name: _measure(name, folder, bench) for name in SIDES}


def measure(bench: Bench, repeat: int = 1) -> dict:
    """Best time of each side over `repeat` rounds, each side in a process of its own, in turn; times are of one epoch.

    `ratio`: plain over ours; `joint_ratio`: the same with all losses on one pair of forwards. Raises McspError when a side
    fails.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_corpus(folder, bench)
        rounds = list(_rounds(folder, bench, repeat))
        least = _measure("floor", folder, bench)
    seconds = {name: min(done[name]["seconds"] for done in rounds) for name in SIDES}
    own = min((done["ours"] for done in rounds), key=lambda found: found["seconds"])
    at_least = max(least["floor_bytes_s"], least["floor_flops_s"])
    name = torch.cuda.get_device_name() if bench.device == "cuda" else f"CPU, {len(os.sched_getaffinity(0))} cores"
    numbers = {
        "ratio": seconds["plain"] / seconds["ours"],
        "joint_ratio": seconds["joint"] / seconds["ours"],
        "subjects_per_s": bench.n_subjects / seconds["ours"],
        "all_subjects_per_s": bench.n_subjects / seconds["all"],
        **{f"{side}_s": value for side, value in seconds.items()},
        **{f"{side}_cpu_s": min(done[side]["cpu"] for done in rounds) for side in SIDES},
        "start_s": own["start_s"],
        "floor_s": at_least,
        "floor_subjects_per_s": bench.n_subjects / at_least,
        **{key: value for key, value in least.items() if key != "peak_mb"},
        "peak_mb": max(done["ours"]["peak_mb"] for done in rounds),
        "plain_peak_mb": max(done["plain"]["peak_mb"] for done in rounds),
        "device_peak_mb": own["device_peak_mb"],
        "kernel_share": own["kernel_share"],
    }
    return {
        "device": name,
        **bench.model_dump(exclude={"device"}),
        "repeat": repeat,
        **{key: None if value is None else float(f"{value:.4g}") for key, value in numbers.items()},
    }


def show(costs: dict) -> None:
    """Print what `measure` found as a table."""
    size = ", ".join(f"{m} {'x'.join(map(str, costs[m]))}" for m in ("fmri", "eeg"))
    title = (
        f"One epoch of {costs['n_subjects']} made-up subjects ({size}), batches of {costs['batch_size']}, on {costs['device']}"
    )
    table = Table("", "time, s", "times mcsp", "CPU time, s", title=title)
    for name, text in SIDES.items():
        value = costs[f"{name}_s"]
        numbers = f"{value:.3f}", f"{value / costs['ours_s']:.2f}", f"{costs[f'{name}_cpu_s']:.3f}"
        table.add_row(text, *numbers, style="bold" if name == "ours" else "")
    table.add_row("floor: inputs read once", f"{costs['floor_bytes_s']:.3f}", f"{costs['floor_bytes_s'] / costs['ours_s']:.2f}")
    table.add_row("floor: matrix products", f"{costs['floor_flops_s']:.3f}", f"{costs['floor_flops_s'] / costs['ours_s']:.2f}")
    console = Console()
    console.print(table)
    share = "" if costs["kernel_share"] is None else f", {costs['kernel_share']:.0%} of the time in kernels"
    console.print(
        f"{costs['subjects_per_s']:.0f} subjects/s{share}; peak memory of the largest process {costs['peak_mb']:.0f} MB "
        f"(plain: {costs['plain_peak_mb']:.0f} MB). Floors by {costs['bandwidth_gb_s']:.1f} GB/s and "
        f"{costs['matmul_gflop_s']:.0f} GFLOP/s, measured here."
    )
