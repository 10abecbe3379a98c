"""fMRIPrep's confound tables, of all its versions, and the strategies that choose columns from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.errors import Exclusion
from mcsp.motion import MOTION

# Columns of fMRIPrep before 1.2 under the names that it uses since.
OLD_NAMES = {
    "X": "trans_x",
    "Y": "trans_y",
    "Z": "trans_z",
    "RotX": "rot_x",
    "RotY": "rot_y",
    "RotZ": "rot_z",
    "CSF": "csf",
    "WhiteMatter": "white_matter",
    "GlobalSignal": "global_signal",
    "FramewiseDisplacement": "framewise_displacement",
}
FULL_MOTION = [f"{m}{s}" for m in MOTION for s in ("", "_derivative1", "_power2", "_derivative1_power2")]
TISSUE = ["csf", "white_matter"]
STRATEGIES: dict[str, list[str]] = {
    "24motion+wmcsf": FULL_MOTION + TISSUE,
    "24motion+wmcsf+gsr": [*FULL_MOTION, *TISSUE, "global_signal"],
    "6motion": list(MOTION),
    "6motion+wmcsf": [*MOTION, *TISSUE],
    "acompcor": [*FULL_MOTION, *(f"a_comp_cor_{i:02d}" for i in range(6))],
    "none": [],
}


def expand(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """`table` with the backward differences and squares of the columns `names` under fMRIPrep's names, where it lacks them.

    The 24 parameters of Friston et al. 1996 (MRM 35:346) are the six of motion so expanded.
    """
    made = {}
    for name in names:
        derivative = table[name].diff()
        made[f"{name}_derivative1"] = derivative
        made[f"{name}_power2"] = table[name] ** 2
        made[f"{name}_derivative1_power2"] = derivative**2
    return pd.concat([table, pd.DataFrame({k: v for k, v in made.items() if k not in table})], axis=1)


def read_confounds(path: Path) -> pd.DataFrame:
    """Read a confounds table; old column names are translated and missing motion expansions computed.

    Raises Exclusion when it is not a table of numbers.
    """
    try:
        table = pd.read_csv(path, sep="\t", na_values=["n/a"]).rename(columns=OLD_NAMES)
    except (ValueError, OSError) as error:
        raise Exclusion(f"{path.name}: confounds are not readable ({error})") from error
    return expand(table, [name for name in MOTION if name in table])


def displacement(table: pd.DataFrame) -> np.ndarray:
    """Framewise displacement (T,) in mm; the first frame, which has none, counts as 0. Raises Exclusion without it."""
    if "framewise_displacement" not in table:
        raise Exclusion(
            "confounds lack framewise_displacement: run fMRIPrep again, or switch scrubbing off (fmri.fd_threshold: null)"
        )
    return np.nan_to_num(table["framewise_displacement"].to_numpy(float))


def select(table: pd.DataFrame, strategy: str) -> np.ndarray | None:
    """Confounds (T, K) of a strategy, None for 'none'. The first value of derivatives, which is n/a, is taken from the
    second row, as nilearn's `load_confounds` does; of aCompCor, as there, all components where fewer than six are kept.
    Raises Exclusion when a column is missing or not finite.
    """
    columns = [c for c in STRATEGIES[strategy] if c in table or not re.fullmatch(r"a_comp_cor_0[1-9]", c)]
    if not columns:
        return None
    missing = [c for c in columns if c not in table]
    if missing:
        raise Exclusion(
            f"confounds lack {', '.join(missing[:4])} for strategy {strategy}: choose another one in fmri.confounds"
        )
    values = table[columns].to_numpy(float)
    if len(values) > 1:
        values[0] = np.where(np.isnan(values[0]), values[1], values[0])
    if not np.isfinite(values).all():
        raise Exclusion("confounds hold missing values beyond the first frame: the table is damaged")
    return values
