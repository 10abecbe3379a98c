"""What the README prints as an example runs as printed."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from tests.predict.conftest import trained  # noqa: F401


@pytest.fixture
def demo(trained, tmp_path):  # noqa: F811
    """Results where the README has them, of the tests' small study instead of the demo."""
    results = tmp_path / "results/demo"
    (results / "store").mkdir(parents=True)
    (results / "store/simfmri").symlink_to(trained.study.stores / "mri")
    for name in ("pretrain", "finetune"):
        (results / name).symlink_to(trained.root / name)
    return tmp_path


def test_the_librarys_example(demo):
    section = (PROJECT / "README.md").read_text().split("## As a library")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, cwd=demo, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([16, 16])" in done.stdout
    assert "['roi0', 'roi1', 'roi2']" in done.stdout
