"""Simulated studies: what is planted, and where."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from mcsp.options import Options


class SimulatedSite(Options):
    """A scanner and an EEG amplifier."""

    name: str
    t_r: PositiveFloat = Field(2.0, description="Repetition time in s")
    sfreq: PositiveFloat = Field(250.0, description="EEG sampling rate in Hz")
    line_freq: Literal[50, 60] = Field(50, description="Mains frequency in Hz")
    gain: PositiveFloat = Field(1.0, description="Scale of BOLD and EEG of this site, and of its BOLD noise: the site effect")


class Defects(Options):
    """How many subjects get a damaged recording, to show what exclusion looks like."""

    truncated_bold: int = Field(0, ge=0)
    short_eeg: int = Field(0, ge=0)
    nan_eeg: int = Field(0, ge=0)


class SimulatedDataset(Options):
    """A simulated BIDS dataset, written under results/<study>/bids/<name>."""

    kind: Literal["simulate"]
    n_shards: int = Field(2, ge=1, le=999)
    n_subjects: PositiveInt
    modalities: list[Literal["fmri", "eeg"]] = Field(min_length=1)
    groups: dict[str, PositiveFloat] = Field(
        {"control": 0.4, "ADHD": 0.2, "ASD": 0.2, "MDD": 0.2},
        description="Share of each diagnosis; 'ADHD+ASD' is a comorbid group",
    )
    sites: list[SimulatedSite] = Field(min_length=1)
    fmri_duration: PositiveFloat = Field(244.0, description="BOLD run length in s")
    eeg_duration: PositiveFloat = Field(110.0, description="EEG recording length in s")
    n_channels: Literal[19, 32, 64] = 19
    voxel_size: PositiveFloat = Field(6.0, description="BOLD voxel size in mm")
    raw_bold: int = Field(
        0, ge=0, description="Subjects whose fMRI comes as from the scanner: T1w of a head of its own, BOLD of it as it moves"
    )
    raw_voxel_size: PositiveFloat = Field(4.0, description="Voxel size of raw BOLD in mm")
    defects: Defects = Defects()
    licence: str = "simulated data: no restriction"


class EdgeEffect(Options):
    """A change of coupling between two networks of the atlas: raises (or lowers) their FC."""

    kind: Literal["edge"]
    disorder: str
    networks: tuple[str, str]
    size: float = Field(
        description="Weight of a signal mixed into both networks: their own signals then correlate by size^2 / (1 + size^2); "
        "< 0: negatively. Connectivity inside each network stays"
    )


class AmplitudeEffect(Options):
    """A change of BOLD amplitude (of slow fluctuations) in one network."""

    kind: Literal["amplitude"]
    disorder: str
    network: str
    size: float = Field(description="Relative change of the fluctuation amplitude between 0.02 and 0.05 Hz")


class BandEffect(Options):
    """A change of EEG band power at a place."""

    kind: Literal["band"]
    disorder: str
    band: Literal["delta", "theta", "alpha", "beta"]
    position: str = Field(description="Name of the nearest standard_1020 electrode, e.g. Fz")
    size: float = Field(description="Relative change of the source amplitude in the band; 0.5 is +50 %")


class NetworkEffect(Options):
    """A change of one network's strength, which shows in both modalities: its coupling in BOLD, its rhythms in EEG."""

    kind: Literal["network"]
    disorder: str
    network: str
    size: float = Field(description="Added to the logarithm of the network's strength (see network_sd)")


class SimulateOptions(Options):
    seed: int = Field(0, ge=0)
    effects: list[EdgeEffect | AmplitudeEffect | BandEffect | NetworkEffect] = Field(
        [], description="Planted group differences, the truth that `explain` is held against"
    )
    coupling: float = Field(
        0.6, ge=0, le=1, description="Share of slow alpha power variance that also drives BOLD (negatively in cortex)"
    )
    subject_sd: float = Field(0.15, ge=0, description="Standard deviation between subjects of every effect")
    network_sd: float = Field(
        0.3,
        ge=0,
        description="Standard deviation between subjects of each network's log strength: its coupling in BOLD, and in EEG the "
        "amplitude of its sources' rhythms and how much these wax and wane together, share it. It is what tells that an EEG "
        "and an fMRI are of one person",
    )
    systemic: float = Field(
        0.0,
        ge=0,
        description="Amplitude in BOLD of each of 8 smooth patterns of slow systemic fluctuation (blood flow, not neurons), in "
        "standard deviations of the median region; how strong each is differs between subjects and is not seen by EEG",
    )
    snr: PositiveFloat = Field(1.0, description="Signal to noise amplitude ratio in BOLD voxels and EEG sensors")
