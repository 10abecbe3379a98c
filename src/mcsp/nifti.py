"""Writing of runs that are too large to be held: frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

COMPRESSION = 1  # isal's fastest level; float32 noise gains little from more


def write_run(path: Path, frames: Iterable[np.ndarray], n_frames: int, affine: np.ndarray, t_r: float) -> None:
    """Write `n_frames` frames (X, Y, Z) as compressed float32 NIfTI in MNI space; `affine` (4, 4) in mm, `t_r` in s. The same
    frames give the same bytes, whatever the name and the time.
    """
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype("<f4")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with open(path, "wb") as raw, igzip.IGzipFile("", "wb", COMPRESSION, raw, mtime=0) as file:
        for i, frame in enumerate(frames):
            if not i:
                header.set_data_shape((*frame.shape, n_frames))
                header.set_qform(affine, code="mni")
                header.set_sform(affine, code="mni")
                header["pixdim"][4] = t_r
                header.set_xyzt_units("mm", "sec")
                file.write(header.binaryblock + bytes(4))
            file.write(frame.astype("<f4", copy=False).tobytes(order="F"))
