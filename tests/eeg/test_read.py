"""Reading: names, places, damaged files."""

import json

import mne
import numpy as np
import pandas as pd
import pytest

from mcsp.bids.check import check_eeg
from mcsp.eeg.read import check_edf_size, read_eeg, standard_name
from mcsp.errors import Exclusion
from mcsp.montage import template_montage
from mcsp.options.eeg import CHANNELS_19, EegOptions
from tests.bids.small_datasets import write_brainvision
from tests.eeg.nets import HYDROCEL, NET_128, field_raw
from tests.eeg.test_segments import make_raw

KNOWN = {name.lower(): name for name in template_montage("standard_1020").ch_names}


def write(raw, folder, name="sub-1_task-rest_eeg.edf"):
    mne.export.export_raw(folder / name, raw, overwrite=True, verbose="error", physical_range=(-1e-3 * 1e6, 1e-3 * 1e6))
    return folder / name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Fp1", "Fp1"),
        ("FP1.", "Fp1"),
        ("EEG Fp1-Ref", "Fp1"),
        ("eeg_fp1_le", "Fp1"),
        ("T3", "T7"),
        ("CZ", "Cz"),
        ("E17", "E17"),
    ],
)
def test_names_of_channels(given, name):
    assert standard_name(given, KNOWN) == name


def test_values_places_and_order_come_from_the_file(tmp_path):
    raw = make_raw(duration=10.0)
    path = write(raw.copy().rename_channels({"T7": "T3", "Cz": "EEG Cz-Ref"}), tmp_path)
    read = read_eeg(path, None, "standard_1020", 60.0)
    assert read.ch_names == CHANNELS_19
    np.testing.assert_allclose(read.get_data(), raw.get_data(), atol=0.05e-6)
    place = template_montage("standard_1020").get_positions()["ch_pos"]["T7"]
    np.testing.assert_allclose(read.get_montage().get_positions()["ch_pos"]["T7"], place, atol=1e-9)


def test_only_what_is_needed_is_read(tmp_path):
    path = write(make_raw(duration=60.0), tmp_path)
    assert read_eeg(path, None, "standard_1020", 10.0).times[-1] == pytest.approx(10.0, abs=0.01)


def test_channels_table_tells_types_and_bad_channels(tmp_path):
    path = write(make_raw(duration=10.0), tmp_path)
    kinds = ["EOG", *["EEG"] * 18]
    table = pd.DataFrame({"name": CHANNELS_19, "type": kinds, "status": ["good", "bad", *["good"] * 17]})
    table.to_csv(tmp_path / "sub-1_task-rest_channels.tsv", sep="\t", index=False)
    read = read_eeg(path, None, "standard_1020", 60.0)
    assert "Fp1" not in read.ch_names
    assert read.info["bads"] == ["Fp2"]


def test_unknown_names_need_an_electrodes_table(tmp_path):
    raw = make_raw(duration=10.0)
    names = {name: f"E{i}" for i, name in enumerate(raw.ch_names)}
    path = write(raw.copy().rename_channels(names), tmp_path)
    with pytest.raises(Exclusion, match=r"0 of 19 channels have a known place \(not: E0, E1.*add an electrodes.tsv"):
        read_eeg(path, None, "standard_1020", 60.0)
    places = raw.get_montage().get_positions()["ch_pos"]
    for unit, scale in {"m": 1, "cm": 100, "mm": 1000}.items():
        table = pd.DataFrame([(names[n], *(np.array(p) * scale)) for n, p in places.items()], columns=["name", "x", "y", "z"])
        table.to_csv(tmp_path / f"{unit}.tsv", sep="\t", index=False)
        read = read_eeg(path, tmp_path / f"{unit}.tsv", "standard_1020", 60.0)
        assert len(read.ch_names) == 19
        np.testing.assert_allclose(read.get_montage().get_positions()["ch_pos"]["E0"], places["Fp1"], atol=1e-6)


def test_no_eeg_channel_at_all(tmp_path):
    path = write(make_raw(duration=10.0), tmp_path)
    table = pd.DataFrame({"name": CHANNELS_19, "type": "EMG"})
    table.to_csv(tmp_path / "sub-1_task-rest_channels.tsv", sep="\t", index=False)
    with pytest.raises(Exclusion, match="no EEG channel"):
        read_eeg(path, None, "standard_1020", 60.0)


def test_damaged_edf(tmp_path):
    path = write(make_raw(duration=10.0), tmp_path)
    check_edf_size(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(Exclusion, match="100 bytes fewer than its header says"):
        read_eeg(path, None, "standard_1020", 60.0)
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    with pytest.raises(Exclusion, match=r"bytes more than its header says.*text-mode transfer"):
        read_eeg(path, None, "standard_1020", 60.0)
    path.write_bytes(b"junk" * 100)
    with pytest.raises(Exclusion, match="header is damaged"):
        read_eeg(path, None, "standard_1020", 60.0)


def test_damaged_brainvision(tmp_path):
    path = tmp_path / "sub-1_task-rest_eeg.vhdr"
    path.write_text("not a header")
    with pytest.raises(Exclusion, match="can't be read"):
        read_eeg(path, None, "standard_1020", 60.0)


def test_two_channels_of_one_name(tmp_path):
    path = write_brainvision(tmp_path, "a", ["Cz", *CHANNELS_19])
    with pytest.raises(Exclusion, match=r"eeg\.vhdr: two channels are named Cz: rename one of them"):
        read_eeg(path, None, "standard_1020", 60.0)
    assert check_eeg(path, EegOptions())[0] == ["two channels are named Cz: rename one of them"]


def test_the_net_of_128_needs_no_electrodes_table(tmp_path):
    """HBN's recordings: E1 to E128 and Cz, of which one name alone is a 10-20 name."""
    raw = field_raw({name: HYDROCEL[name] for name in NET_128}, noise=1e-6, duration=3.0)
    read = read_eeg(write(raw, tmp_path), None, "standard_1020", 60.0)
    assert read.ch_names == NET_128
    np.testing.assert_allclose(read.get_montage().get_positions()["ch_pos"]["E36"], HYDROCEL["E36"], atol=1e-9)


@pytest.mark.parametrize("system", ["CapTrak", "CTF", "EEGLAB"])
def test_axes_of_an_electrodes_table_are_those_of_its_coordinate_system(tmp_path, system):
    """The same head in BIDS' two conventions (right-nose-up, nose-left-up) gives the same places."""
    raw = make_raw(duration=3.0)
    path = write(raw.copy().rename_channels({name: f"X{i}" for i, name in enumerate(CHANNELS_19)}), tmp_path)
    places = np.array([template_montage("standard_1020").get_positions()["ch_pos"][name] for name in CHANNELS_19])
    told = places if system == "CapTrak" else np.stack([places[:, 1], -places[:, 0], places[:, 2]], axis=1)
    table = pd.DataFrame(1000 * told, columns=["x", "y", "z"]).assign(name=[f"X{i}" for i in range(19)])
    table.to_csv(tmp_path / "sub-1_electrodes.tsv", sep="\t", index=False)
    (tmp_path / "sub-1_coordsystem.json").write_text(json.dumps({"EEGCoordinateSystem": system, "EEGCoordinateUnits": "mm"}))
    read = read_eeg(path, tmp_path / "sub-1_electrodes.tsv", "standard_1020", 60.0)
    found = read.get_montage().get_positions()["ch_pos"]
    np.testing.assert_allclose([found[f"X{i}"] for i in range(19)], places, atol=1e-6)
