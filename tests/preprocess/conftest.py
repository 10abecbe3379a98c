"""A simulated head whose shape, pose and movement are known, and what the embedded route makes of it."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from mcsp.atlas import Atlas, load_atlas
from mcsp.bids.recordings import recordings_table
from mcsp.options.embedded import EmbeddedOptions
from mcsp.preprocess.stage import embedded_subject
from mcsp.simulate.raw import Head, bold_run, draw_head, slice_times, t1w_volume
from mcsp.simulate.signals import motion_parameters
from mcsp.store import write_json

T_R, N_FRAMES, VOXEL_MM, DT = 2.0, 40, 4.0, 0.5
OPTIONS = EmbeddedOptions(registration="quick", voxel_size=4.0)
OTHER_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # intermediate files are elsewhere than results


@dataclass
class Subject:
    """Truth and files of one simulated subject."""

    head: Head
    motion: np.ndarray  # (T, 6) as planted
    roi: np.ndarray  # (R, N) every DT s
    atlas: Atlas
    raw: Path
    t1w: Path
    bold: Path
    rows: list
    derivatives: Path
    record: dict


def raw_rows(uid: str, bold: Path, t1w: Path, t_r: float = T_R) -> list[dict]:
    """Recordings table of one raw run, as ingestion writes it."""
    row = {"uid": uid, "modality": "fmri", "kind": "raw", "path": str(bold), "t_r": t_r, "task": "rest", "t1w": str(t1w)}
    return recordings_table([row]).to_dict("records")


@pytest.fixture(scope="session")
def subject(tmp_path_factory, atlas_table) -> Subject:
    """A head that moves three times as much as usual, through the embedded route; read-only."""
    root = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(7)
    atlas, head = load_atlas(atlas_table), draw_head(rng)
    motion = 3 * motion_parameters(rng, N_FRAMES, T_R)
    roi = gaussian_filter1d(rng.normal(size=(len(atlas.names), int((N_FRAMES + 1) * T_R / DT))), 8, axis=1)
    roi *= 2 / roi.std()
    anat, func = root / "sub-01" / "anat", root / "sub-01" / "func"
    anat.mkdir(parents=True)
    func.mkdir()
    t1w, bold = anat / "sub-01_T1w.nii.gz", func / "sub-01_task-rest_bold.nii.gz"
    t1w_volume(rng, head).to_filename(t1w)
    image = bold_run(rng, head, roi, DT, atlas, motion, t_r=T_R, voxel_size=VOXEL_MM)
    image.to_filename(bold)
    times = slice_times(image.shape[2], T_R).tolist()
    write_json(func / "sub-01_task-rest_bold.json", {"RepetitionTime": T_R, "TaskName": "rest", "SliceTiming": times})
    write_json(root / "dataset_description.json", {"Name": "Simulated data", "BIDSVersion": "1.10.0"})
    rows = raw_rows("d/sub-01", bold, t1w)
    derivatives = tmp_path_factory.mktemp("derivatives")
    with TemporaryDirectory(dir=OTHER_DISK) as work:
        options = OPTIONS.model_copy(update={"work_dir": f"{work}/own"})
        record = embedded_subject(rows, derivatives=derivatives, options=options, note="SIMULATED DATA")
        assert [path.name for path in Path(work).rglob("*")] == ["own"]  # it was used, and is empty
    return Subject(head, motion, roi, atlas, root, t1w, bold, rows, derivatives, record)


def made(subject: Subject, suffix: str) -> Path:
    """The one file of the subject's derivatives that ends so."""
    (found,) = (subject.derivatives / "sub-01").rglob(f"*{suffix}")
    return found


def load(path: Path) -> nib.Nifti1Image:
    """An image."""
    return nib.load(path)
