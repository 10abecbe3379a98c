"""Rigid movement: parameters and matrices agree, and displacement is that of its paper."""

import numpy as np
from nibabel.affines import apply_affine

from mcsp.motion import framewise_displacement, rigid_matrix, rigid_parameters


def test_parameters_and_matrix_are_inverse():
    rng = np.random.default_rng(0)
    for _ in range(20):
        parameters = np.concatenate([rng.normal(0, 5, 3), rng.normal(0, 0.3, 3)])
        centre = rng.normal(0, 40, 3)
        matrix = rigid_matrix(parameters, centre)
        np.testing.assert_allclose(rigid_parameters(matrix, centre), parameters, atol=1e-12)
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)


def test_the_centre_moves_by_the_shift_alone():
    centre = np.array([1.0, 2.0, 3.0])
    moved = apply_affine(rigid_matrix(np.array([0.5, -1.0, 2.0, 0.2, 0.1, -0.3]), centre), centre)
    np.testing.assert_allclose(moved - centre, [0.5, -1.0, 2.0])


def test_a_quarter_turn_about_z():
    quarter = rigid_matrix(np.array([0, 0, 0, 0, 0, np.pi / 2]), np.zeros(3))
    np.testing.assert_allclose(apply_affine(quarter, [1.0, 0, 0]), [0, 1, 0], atol=1e-12)


def test_displacement_counts_rotation_on_a_sphere_of_50_mm():
    motion = np.zeros((3, 6))
    motion[1:, 0], motion[2, 4] = 0.3, 0.01
    np.testing.assert_allclose(framewise_displacement(motion)[1:], [0.3, 0.5])
    assert np.isnan(framewise_displacement(motion)[0])
