"""Parcellation beside nilearn's masker and beside decompression alone: time and memory, side by side in one run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from isal import igzip
from rich.console import Console
from rich.table import Table

from mcsp import nifti
from mcsp.bench import measure_side
from mcsp.errors import McspError

FULL, SMALL = (99, 117, 95, 200), (33, 39, 32, 40)
EXTENT_MM, ORIGIN_MM = np.array([198.0, 234.0, 190.0]), np.array([-98.0, -134.0, -72.0])  # FULL at 2 mm, about MNI space
T_R, BAND = 2.0, (0.01, 0.1)  # s, Hz
SIDES = {
    "nilearn": "nilearn's NiftiLabelsMasker",
    "ours": "mcsp",
    "gunzip": "decompression alone (isal)",
    "gzip": "decompression alone (gzip)",
}


def write_run(path: Path, shape: tuple[int, int, int, int], seed: int = 0) -> None:
    """Write a simulated float32 run as gzip, level 1, volume by volume: the MNI152 template's intensities inside its
    brain mask, eight smooth maps that come and go in the pass band, white noise; zero outside. TR 2 s.
    """
    from nilearn import datasets, image
    from scipy.ndimage import gaussian_filter

    rng, grid = np.random.default_rng(seed), shape[:3]
    affine = nib.affines.from_matvec(np.diag(EXTENT_MM / grid), ORIGIN_MM)
    brain, anatomy = (
        image.resample_img(source, affine, grid, interpolation=how).get_fdata(dtype=np.float32)
        for source, how in ((datasets.load_mni152_brain_mask(4), "nearest"), (datasets.load_mni152_template(4), "linear"))
    )
    brain = (brain > 0).astype(np.float32)
    base = brain * (500 + 500 * anatomy)
    maps = [gaussian_filter(rng.standard_normal(grid, np.float32), np.array(grid) / 12) for _ in range(8)]
    maps = np.stack([brain * m / m.std() for m in maps])
    phase = 2 * np.pi * (np.linspace(0.02, 0.08, 8)[:, None] * T_R * np.arange(shape[3]) + rng.random((8, 1)))

    def frames() -> Iterator[np.ndarray]:
        for weights in np.sin(phase).T.astype(np.float32):
            yield base + 5 * np.tensordot(weights, maps, 1) + 10 * brain * rng.standard_normal(grid, np.float32)

    nifti.write_run(path, frames(), shape[3], affine, T_R)


def _nilearn(run: Path, atlas: Path) -> Callable[[], np.ndarray]:
    from nilearn.maskers import NiftiLabelsMasker

    def work() -> np.ndarray:
        masker = NiftiLabelsMasker(
            atlas.with_name("atlas.nii.gz"), resampling_target="data", strategy="mean", keep_masked_labels=False, detrend=True,
            standardize="zscore_sample", high_pass=BAND[0], low_pass=BAND[1], t_r=T_R,
        )  # fmt: skip
        series = masker.fit_transform(run)
        return series * np.sqrt(len(series) / (len(series) - 1))  # the stores' z-scores divide by n

    return work


def _ours(run: Path, atlas: Path) -> Callable[[], np.ndarray]:
    from mcsp.fmri import stage  # all that the stage imports belongs to its memory
    from mcsp.fmri.series import standard_length
    from mcsp.options.fmri import FmriOptions

    n = nib.load(run).shape[3]
    options = FmriOptions(confounds="none", high_pass=BAND[0], low_pass=BAND[1], t_r=T_R, n_frames=n, min_frames=1)

    def work() -> np.ndarray:
        regions = stage.load_atlas(atlas)
        raw, covered = stage.run_means(run, regions.image, regions.index)
        cleaned, _ = stage.denoise(raw[:, covered], T_R, options, None)
        return standard_length(cleaned, options)[0].T

    return work


def _decompression(run: Path, opened: Callable) -> Callable[[], np.ndarray]:
    def work() -> np.ndarray:
        with opened(run, "rb") as stream:
            while stream.read(1 << 20):
                pass
        return np.zeros(0)

    return work


def side(name: str, place: str) -> dict[str, float]:
    """Do one side's work on the run in the directory `place`; gives its `seconds`, and leaves the series in `<name>.npy`.

    It works on a tiny run first: what is imported at first use must not be timed.
    """
    import gzip
    import warnings

    warnings.simplefilter("ignore")
    folder = Path(place)
    atlas = folder / "atlas.tsv"
    make = {
        "nilearn": lambda run: _nilearn(run, atlas),
        "ours": lambda run: _ours(run, atlas),
        "gunzip": lambda run: _decompression(run, igzip.open),
        "gzip": lambda run: _decompression(run, gzip.open),
    }[name]
    make(folder / "tiny.nii.gz")()
    work = make(folder / "run.nii.gz")
    started = time.perf_counter()
    series = work()
    seconds = time.perf_counter() - started
    np.save(folder / f"{name}.npy", series)
    return {"seconds": seconds}


def measure(shape: tuple[int, int, int, int] = FULL, repeat: int = 3) -> dict:
    """Best time and largest peak of each side over `repeat` rounds, each side in a process of its own, in turn.

    Both series are detrended, band-passed and z-scored by `nilearn.signal.clean`; `max_difference` is the largest one in
    standard deviations. Raises McspError when a side fails.
    """
    from mcsp.atlas import run as write_atlas
    from mcsp.options.atlas import AtlasOptions

    with TemporaryDirectory() as place:
        folder = Path(place)
        with redirect_stdout(sys.stderr):
            write_atlas(options=AtlasOptions(), out=folder / "atlas.tsv")
        write_run(folder / "run.nii.gz", shape)
        write_run(folder / "tiny.nii.gz", SMALL)
        rounds = [{name: measure_side("bench_parcellate", name, str(folder)) for name in SIDES} for _ in range(repeat)]
        gz = (folder / "run.nii.gz").stat().st_size
        nilearn, ours = (np.load(folder / f"{name}.npy") for name in ("nilearn", "ours"))
    seconds = {name: min(done[name]["seconds"] for done in rounds) for name in SIDES}
    peaks = {name: max(done[name]["peak_mb"] for done in rounds) for name in SIDES}
    if nilearn.shape != ours.shape:
        raise McspError(f"bench parcellate: series of shape {ours.shape}, nilearn's {nilearn.shape}: they should agree")
    return {
        "shape": list(shape),
        "regions": ours.shape[1],
        "mb_gz": round(gz / 1e6, 1),
        "mb_raw": round(4 * int(np.prod(shape)) / 1e6, 1),
        "repeat": repeat,
        "ratio": round(seconds["nilearn"] / seconds["ours"], 2),
        "gunzip_ratio": round(seconds["ours"] / seconds["gunzip"], 3),
        "max_difference": float(f"{np.abs(ours - nilearn).max():.3g}"),
        "peak_mb": round(peaks["ours"], 1),
        **{f"{name}_s": round(value, 3) for name, value in seconds.items()},
        **{f"{name}_peak_mb": round(value, 1) for name, value in peaks.items() if name != "ours"},
    }


def show(costs: dict) -> None:
    """Print what `measure` found as a table."""
    size = "x".join(map(str, costs["shape"]))
    title = f"Simulated run of {size} float32, {costs['mb_raw']} MB, {costs['mb_gz']} MB as gzip; best of {costs['repeat']}"
    table = Table("", "time, s", "times mcsp", "peak memory, MB", title=title)
    for name, text in SIDES.items():
        peak = costs["peak_mb" if name == "ours" else f"{name}_peak_mb"]
        times = costs[f"{name}_s"] / costs["ours_s"]
        table.add_row(text, f"{costs[f'{name}_s']:.2f}", f"{times:.2f}", f"{peak:.0f}", style="bold" if name == "ours" else "")
    console = Console()
    console.print(table)
    console.print(
        f"{costs['regions']} regions, detrended, {BAND[0]}-{BAND[1]} Hz, z-scored; largest difference between the two: "
        f"{costs['max_difference']:g} standard deviations. Times without imports; memory of the whole process."
    )
