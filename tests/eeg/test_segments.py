"""From continuous EEG to segments: against MNE and closed forms, and bad recordings."""

import mne
import numpy as np
import pytest

from mcsp.eeg.segments import (
    cut_segments,
    filter_raw,
    find_bad_channels,
    preprocess,
    reject_missing,
    scale_of,
    spline_error,
    to_montage,
    top_frequency,
)
from mcsp.errors import Exclusion
from mcsp.montage import HYDROCEL_1020, is_hydrocel_128, template_montage
from mcsp.options.eeg import CHANNELS_19, EegOptions
from tests.eeg.nets import HYDROCEL, NET_128, field_raw

OPTIONS = EegOptions(n_segments=20)
PLACES = template_montage("standard_1020").get_positions()["ch_pos"]


def smooth_field(names, seed=0):
    """Weights of a smooth field over the head, from two dipole-like sources."""
    places = np.array([PLACES[name] for name in names])
    unit = places / np.linalg.norm(places, axis=1, keepdims=True)
    axes = np.random.default_rng(seed).normal(size=(2, 3))
    return unit @ axes.T


def make_raw(names=CHANNELS_19, sfreq=250.0, duration=40.0, seed=0, noise=2e-6):
    rng = np.random.default_rng(seed)
    t = np.arange(int(sfreq * duration)) / sfreq
    sources = np.stack([np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 6 * t + 1)])
    data = 20e-6 * smooth_field(names) @ sources + noise * rng.normal(size=(len(names), len(t)))
    raw = mne.io.RawArray(data, mne.create_info(list(names), sfreq, "eeg"), verbose="error")
    return raw.set_montage(mne.channels.make_dig_montage({n: PLACES[n] for n in names}, coord_frame="head"))


def amplitude(data, sfreq, hz):
    t = np.arange(data.shape[-1]) / sfreq
    return 2 * np.abs((data * np.exp(-2j * np.pi * hz * t)).mean(axis=-1))


def test_pass_band_stays_line_and_drift_go():
    raw = make_raw(sfreq=500.0, duration=60.0)
    t = raw.times
    raw._data += 50e-6 * np.sin(2 * np.pi * 50 * t) + 100e-6 * np.sin(2 * np.pi * 0.05 * t)
    before = raw.get_data()
    filter_raw(raw, OPTIONS, 50.0)
    after = raw.get_data()
    inside = slice(5000, -5000)
    for hz in (6, 10):
        np.testing.assert_allclose(amplitude(after[:, inside], 500, hz), amplitude(before[:, inside], 500, hz), rtol=0.01)
    assert amplitude(after[:, inside], 500, 50).max() < 0.2e-6
    assert amplitude(after[:, inside], 500, 0.05).max() < 0.02 * 100e-6  # MNE's transition band ends at 0.25 Hz


@pytest.mark.parametrize("line_freq", [np.nan, 60.0])
def test_rates_that_hold_no_hum_need_no_notch(line_freq):
    raw = make_raw(sfreq=100.0)
    filter_raw(raw, OPTIONS, line_freq)
    assert np.isfinite(raw.get_data()).all()


@pytest.mark.parametrize("sfreq", [128.0, 250.0, 500.0])
def test_another_net_and_rate_give_the_same_field_on_the_montage(sfreq):
    """A smooth field seen by 60 other electrodes, mapped to the 19: close to the field at those 19."""
    others = [n for n in PLACES if n not in CHANNELS_19 and n not in ("T3", "T4", "T5", "T6", "A1", "A2", "M1", "M2")][::1]
    raw = make_raw(others, sfreq, noise=0.2e-6)
    data, _ = preprocess(raw, OPTIONS, 50.0)
    assert data.shape == (19, (40 * 250))
    truth = 20e-6 * smooth_field(CHANNELS_19)[:, 0]
    got = amplitude(data[:, 1000:-1000], 250, 10)
    reference = 20e-6 * smooth_field(others)[:, 0].mean()
    assert np.corrcoef(got, np.abs(truth - reference))[0, 1] > 0.95


def test_a_recording_with_all_channels_keeps_its_own():
    raw = make_raw([*CHANNELS_19[::-1], "FCz", "AFz"])
    own = raw.copy().pick(CHANNELS_19).reorder_channels(CHANNELS_19).get_data()
    np.testing.assert_array_equal(to_montage(raw, OPTIONS).get_data(), own)


def test_splines_are_mnes():
    raw = make_raw(["FC1", "FC2", "CP1", "CP2", "AF3", "AF4", "PO3", "PO4", "FT9", "FT10"])
    target = mne.channels.make_dig_montage({n: PLACES[n] for n in CHANNELS_19}, coord_frame="head")
    expected = raw.copy().interpolate_to(target, method="spline").get_data()
    np.testing.assert_allclose(to_montage(raw, OPTIONS).get_data(), expected)


def test_average_reference():
    np.testing.assert_allclose(preprocess(make_raw(), OPTIONS, 50.0)[0].mean(axis=0), 0, atol=1e-12)


def test_bad_channels_are_found_and_interpolated():
    raw = make_raw()
    rng = np.random.default_rng(1)
    clean, whole = preprocess(make_raw(), OPTIONS, 50.0)
    raw._data[3] = 0.0  # flat
    raw._data[16] = 4e-3 * rng.normal(size=raw.n_times)  # loose
    raw._data[7, 100] = np.nan
    mended, holes = preprocess(raw, OPTIONS, 50.0)
    assert whole == {"n_channels": 19, "n_bad": 0, "gap_mm": 0, "spline_error": 0, "top_hz": 45}
    assert 0 < holes["spline_error"] < 1
    assert (holes["n_channels"], holes["n_bad"]) == (19, 3)
    neighbours = [np.linalg.norm(PLACES[raw.ch_names[i]] - PLACES[other]) for i in (3, 16, 7) for other in raw.ch_names]
    assert min(n for n in neighbours if n > 0) * 1000 <= holes["gap_mm"] < 100
    for channel in (3, 16, 7):
        assert np.corrcoef(mended[channel], clean[channel])[0, 1] > 0.8
    np.testing.assert_array_equal(
        find_bad_channels(np.vstack([rng.normal(0, 1e-5, (9, 500)), np.zeros((1, 500))]), list("abcdefghij")), ["j"]
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d[:8].fill(np.nan), r"8 of 19 channels have missing values \(NaN\)"),
        (lambda d: d[:8].fill(0.0), r"8 of 19 channels are bad \(Fp1, Fp2, F7, F3, Fz\)"),
        (lambda d: d.fill(0.0), "19 of 19 channels are bad"),
        (lambda d: np.multiply(d, 1e6, out=d), "not EEG, or in wrong units"),
        (lambda d: np.multiply(d, 1e-3, out=d), r"median amplitude 0\.007 uV \(SD\): dead, or volts or mV taken for uV"),
        (lambda d: np.multiply(d, 1e-6, out=d), r"median amplitude 7e-06 uV \(SD\): dead, or volts or mV taken for uV"),
    ],
)
def test_recordings_beyond_repair_are_excluded_with_a_reason(spoil, message):
    raw = make_raw()
    spoil(raw._data)
    with pytest.raises(Exclusion, match=message):
        preprocess(raw, OPTIONS, 50.0)


def test_channels_that_are_all_bad_are_told_by_their_table():
    raw = make_raw()
    raw.info["bads"] = list(CHANNELS_19)
    with pytest.raises(Exclusion, match=r"all 19 channels are bad by channels\.tsv"):
        preprocess(raw, OPTIONS, 50.0)


def test_missing_values_stay_in_their_channel():
    raw = make_raw()
    raw._data[2, 50:60] = np.inf
    reject_missing(raw, 0.3)
    assert raw.info["bads"] == [raw.ch_names[2]]
    assert np.isfinite(raw.get_data()).all()


def test_segments_are_the_first_clean_ones_in_order():
    data = np.arange(19 * 5000, dtype=float).reshape(19, 5000) * 1e-9
    data[4, 250] = 1.0  # spoils the second segment of 200
    cut = cut_segments(data, OPTIONS)
    assert cut.shape == (20, 19, 200)
    np.testing.assert_array_equal(cut[0], data[:, :200])
    np.testing.assert_array_equal(cut[1], data[:, 400:600])


def test_the_paper_s_cut_of_a_whole_recording():
    """25,000 samples are 125 segments of 200, side by side."""
    data = np.random.default_rng(0).normal(0, 1e-5, (19, 25000))
    cut = cut_segments(data, EegOptions())
    np.testing.assert_array_equal(cut.transpose(1, 0, 2).reshape(19, -1), data)
    with pytest.raises(Exclusion, match="too short: 124 of 125 clean segments"):
        cut_segments(data[:, :-1], EegOptions())


def test_short_recordings_by_choice():
    data = np.random.default_rng(0).normal(0, 1e-5, (19, 2000))
    with pytest.raises(Exclusion, match=r"too short: 10 of 20 clean segments of 0\.8 s in 8 s: record longer, or set"):
        cut_segments(data, OPTIONS)
    overlap = OPTIONS.model_copy(update={"short": "overlap"})
    cut = cut_segments(data, overlap)
    assert cut.shape == (20, 19, 200)
    np.testing.assert_array_equal(cut[0], data[:, :200])
    np.testing.assert_array_equal(cut[-1], data[:, -200:])
    starts = [int(np.flatnonzero(data[0] == segment[0, 0])[0]) for segment in cut]
    assert np.ptp(np.diff(starts)) <= 10  # evenly spread, to the step of 10
    with pytest.raises(Exclusion, match="too short even for overlapping"):
        cut_segments(data[:, :1000], overlap)


def test_the_scale_is_a_robust_standard_deviation():
    data = np.random.default_rng(0).normal(0, 7e-6, (20, 19, 200))
    assert scale_of(data) == pytest.approx(7e-6, rel=0.02)
    data[0] = 1.0
    assert scale_of(data) == pytest.approx(7e-6, rel=0.1)


# ---- nets and rates


def test_the_net_of_128_lies_where_its_maker_says():
    """Each channel of the maker's table is within an electrode's spacing of its 10-20 place, and left is left."""
    gaps = [np.linalg.norm(HYDROCEL[channel] - PLACES[place]) for channel, place in HYDROCEL_1020.items()]
    assert np.median(gaps) < 0.012
    assert max(gaps) < 0.026
    assert HYDROCEL["E36"][0] < 0 < HYDROCEL["E104"][0]
    assert HYDROCEL["E70"][1] < HYDROCEL["Cz"][1] < HYDROCEL["E22"][1]
    own = template_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    spacing = [np.linalg.norm(places["E31"] - places["E80"]) for places in (HYDROCEL, own)]
    assert spacing[0] == pytest.approx(spacing[1], rel=0.02)  # a rigid motion, but for 0.4 % of size


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (NET_128, True),
        ([f"E{i}" for i in range(1, 130)], True),
        ([name for name in NET_128 if name not in ("E17", "E126", "E127", "E128")], True),
        ([f"E{i}" for i in range(1, 66)], False),
        ([f"E{i}" for i in range(1, 257)], False),
        (CHANNELS_19, False),
        ([], False),
    ],
)
def test_nets_are_told_by_their_names(names, known):
    assert is_hydrocel_128(names) is known


def test_128_channels_give_the_field_on_the_montage():
    """The net's own electrodes at 10-20 places are the reference: what splines make is what they saw."""
    raw = field_raw({name: HYDROCEL[name] for name in NET_128}, noise=0.2e-6)
    data, quality = preprocess(raw, OPTIONS, 60.0)
    truth = field_raw({name: PLACES[name] for name in CHANNELS_19}, noise=0.0)
    mean = field_raw({name: HYDROCEL[name] for name in NET_128}, noise=0.0).get_data().mean(axis=0)
    expected = truth.get_data() - mean
    inside = slice(1000, -1000)
    error = np.sqrt(np.mean((data[:, inside] - expected[:, inside]) ** 2) / np.mean(expected[:, inside] ** 2))
    assert error < 0.05
    assert quality["n_channels"] == 129
    assert quality["spline_error"] < 0.05


def test_the_error_of_splines_grows_with_noise_and_with_gaps():
    net = {name: HYDROCEL[name] for name in NET_128}
    errors = [spline_error(field_raw(net, noise=noise, duration=10.0), OPTIONS) for noise in (0.2e-6, 2e-6, 20e-6)]
    assert errors == sorted(errors)
    assert errors[0] < 0.05 < errors[1] < 0.5 < errors[2]
    sparse = {name: HYDROCEL[name] for name in NET_128[::14]}
    assert spline_error(field_raw(sparse, noise=0.2e-6, duration=10.0), OPTIONS) > 2 * errors[0]


def test_the_error_of_splines_is_that_of_one_electrode_left_out():
    """With one electrode near the montage's only channel, the error is that of MNE's interpolation of it."""
    net = {name: HYDROCEL[name] for name in NET_128}
    raw = field_raw(net, noise=2e-6, duration=10.0)
    options = OPTIONS.model_copy(update={"ch_names": ["C3"]})
    own = raw.copy().set_eeg_reference("average", verbose="error")
    nearest = min(NET_128, key=lambda name: np.linalg.norm(HYDROCEL[name] - PLACES["C3"]))
    left_out = own.copy()
    left_out.info["bads"] = [nearest]
    told = left_out.interpolate_bads(verbose="error").get_data([nearest])
    truth = own.get_data([nearest])
    expected = np.sqrt(np.mean((told - truth) ** 2) / np.mean(truth**2))
    assert spline_error(raw, options) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("sfreq", [100.0, 160.0, 250.0, 500.0, 1000.0])
def test_every_rate_keeps_the_same_band(sfreq):
    """Noise with a flat spectrum: at all rates the same share of each frequency is left, and nothing above the band."""
    rng = np.random.default_rng(0)
    raw = make_raw(sfreq=sfreq, duration=80.0)
    raw._data = 10e-6 * np.sqrt(sfreq / 100) * rng.normal(size=raw._data.shape)  # equal power per Hz
    data, quality = preprocess(raw, OPTIONS, np.nan)
    freqs = np.fft.rfftfreq(500, 1 / 250)
    windows = data[:, : data.shape[1] // 500 * 500].reshape(19, -1, 500) * np.hanning(500)
    power = (np.abs(np.fft.rfft(windows)) ** 2).mean(axis=(0, 1))
    level = power[(freqs >= 5) & (freqs <= 40)].mean()
    assert quality["top_hz"] == 45
    assert power[(freqs >= 42) & (freqs <= 44)].mean() / level == pytest.approx(1, abs=0.1)
    assert power[(freqs >= 47) & (freqs <= 48)].mean() / level == pytest.approx(0.25, abs=0.12)
    assert power[freqs > 51].max() / level < 1e-4


def test_a_rate_too_low_for_the_band_says_what_is_left():
    raw = make_raw(sfreq=80.0)
    _, quality = preprocess(raw, OPTIONS, 60.0)
    assert quality["top_hz"] == top_frequency(80.0, OPTIONS) == 36
    assert top_frequency(100.0, EegOptions(low_pass=40)) == 40


@pytest.mark.parametrize("name", ["S001R01", "S001R02"])
def test_the_error_told_is_near_the_true_one(real_data, name):
    """A real recording of 64 channels without the montage's 19, which are the truth that splines are held against."""
    raw = mne.io.read_raw_edf(real_data / "eeg" / "eegmmidb" / f"{name}.edf", preload=True, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    raw.pick([channel for channel in raw.ch_names if channel in PLACES])
    raw.set_montage(mne.channels.make_dig_montage({n: PLACES[n] for n in raw.ch_names}, coord_frame="head"))
    filter_raw(raw, OPTIONS, 60.0)
    raw.set_eeg_reference("average", verbose="error")
    truth = raw.copy().pick(CHANNELS_19).reorder_channels(CHANNELS_19).get_data()
    rest = raw.drop_channels(CHANNELS_19)
    told = spline_error(rest, OPTIONS)
    made = to_montage(rest, OPTIONS).get_data()
    true = np.median(np.sqrt(((made - truth) ** 2).mean(axis=1) / (truth**2).mean(axis=1)))
    assert told == pytest.approx(true, rel=0.2)
    assert 0.2 < told < 0.5
