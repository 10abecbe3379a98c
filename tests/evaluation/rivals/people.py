"""People with planted features, in memory."""

from __future__ import annotations

import numpy as np
import pandas as pd


def crowd(n: int = 80, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """People, labels, and features of two modalities; half of the people lack one of them. A fifth validate."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    uid = [f"a/sub-{i:03d}" for i in range(n)]
    people = pd.DataFrame({"uid": uid, "dataset": "a", "site": rng.choice(["x", "y"], n), "family": uid})
    people["age"], people["mean_fd"] = rng.uniform(8, 40, n), rng.uniform(0, 0.3, n) + 0.2 * y
    people["sex"] = rng.choice(["M", "F"], n)
    people["part"] = np.where(np.arange(n) % 10 < 2, "val", "train")
    x = rng.normal(size=(n, 12))
    x[:, 0] += 1.5 * y
    has = {"fmri": np.arange(n) % 4 != 0, "eeg": np.arange(n) % 4 != 1}
    features = {m: {u: x[i] + rng.normal(size=12) for i, u in enumerate(uid) if has[m][i]} for m in has}
    return people.set_index("uid", drop=False), y, features
