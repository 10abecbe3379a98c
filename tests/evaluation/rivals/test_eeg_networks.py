"""Networks of braindecode, where it is installed; what is said where it is not."""

from __future__ import annotations

import sys

import pytest
import torch

from mcsp.errors import McspError
from mcsp.evaluation.rivals.catalogue import rival_maker
from mcsp.evaluation.rivals.eeg_networks import NAMES, build, zoo
from mcsp.store import read_table


@pytest.fixture
def braindecode():
    try:
        return zoo()
    except McspError as error:
        pytest.skip(str(error))


def test_a_missing_package_is_one_clear_line(monkeypatch, stored_study):
    monkeypatch.setitem(sys.modules, "braindecode", None)
    monkeypatch.setitem(sys.modules, "braindecode.models", None)
    cohort = read_table(stored_study.cohort)
    with pytest.raises(McspError, match=r"pip install -e '\.\[braindecode\]'") as error:
        rival_maker("eegnet", stored_study.stores, cohort)
    assert "\n" not in str(error.value)
    assert rival_maker("eegnet", stored_study.stores, cohort[~cohort["has_eeg"]]) is None  # nobody needs it


@pytest.mark.parametrize("name", NAMES)
def test_segments_give_a_logit_each(braindecode, name):
    torch.manual_seed(0)
    net, x = build((19, 200), name=name, sfreq=250.0).eval(), torch.randn(5, 19, 200)
    assert net(x).shape == (5,)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-4, atol=1e-5)


def test_kernels_have_the_papers_lengths_in_seconds(braindecode):
    """At 250 Hz those of Schirrmeister et al. (25 samples; pools of 75 every 15); EEGNet's 64 at 128 Hz are half a second."""

    def kernels(name, sfreq, n):
        net = build((19, n), name=name, sfreq=sfreq)
        convolutions = {m.kernel_size for m in net.modules() if isinstance(m, torch.nn.Conv2d)}
        pools = {m.kernel_size for m in net.modules() if isinstance(m, torch.nn.AvgPool2d)}
        return {size for pair in convolutions for size in pair}, {tuple(p) if isinstance(p, tuple) else p for p in pools}

    for name in ("shallow_fbcspnet", "eeg_conformer"):
        convolutions, pools = kernels(name, 250.0, 200)
        assert 25 in convolutions
        assert any(75 in pool for pool in pools)
        assert 10 in kernels(name, 100.0, 200)[0]
    stft = next(m for m in build((19, 400), name="biot", sfreq=100.0).modules() if hasattr(m, "hop_length"))
    assert (stft.n_fft, stft.hop_length) == (100, 50)  # Yang et al.: tokens of a second, overlapping by half
    assert 64 in kernels("eegnet", 128.0, 256)[0]
    assert 125 in kernels("eegnet", 250.0, 500)[0]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "biot"])  # one token may be as short as it likes
def test_segments_that_are_too_short_are_one_clear_line(braindecode, name):
    with pytest.raises(McspError, match="segments of 8 samples"):
        build((4, 8), name=name, sfreq=250.0)
