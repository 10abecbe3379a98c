"""mcsp: multi-modal cross-domain self-supervised pre-training for fMRI and EEG."""

__version__ = "0.1.0"
