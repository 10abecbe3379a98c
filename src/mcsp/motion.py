"""Rigid movement of a head: parameters, matrices, displacement."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")  # mm and rad
HEAD_RADIUS_MM = 50.0  # Power et al. 2012: rotations as arc length on a sphere of this radius


def rigid_matrix(parameters: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Matrix (4, 4) of a movement `parameters` (6: mm, rad): rotations about the fixed axes x, y, z through `centre` (3, mm),
    one after the other, then the shift.
    """
    turn = Rotation.from_euler("xyz", parameters[3:]).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre - turn @ centre + parameters[:3]
    return matrix


def rigid_parameters(matrix: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Parameters (6: mm, rad) of a rigid `matrix` (4, 4): the inverse of `rigid_matrix`."""
    angles = Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz")
    return np.concatenate([matrix[:3, :3] @ centre + matrix[:3, 3] - centre, angles])


def framewise_displacement(motion: np.ndarray) -> np.ndarray:
    """Framewise displacement (T,) in mm, the first frame NaN. `motion` (T, 6): mm and rad.

    Source: Power et al. 2012, NeuroImage 59:2142: sum of absolute differences, rotations on a sphere of 50 mm.
    """
    change = np.abs(np.diff(motion, axis=0))
    change[:, 3:] *= HEAD_RADIUS_MM
    return np.concatenate([[np.nan], change.sum(axis=1)])
