"""mcsp: multi-modal cross-domain self-supervised pre-training for fMRI and EEG.

As a library: `from mcsp import MCSP, Classifier`.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["MCSP", "Classifier", "__version__"]


def __getattr__(name: str) -> object:
    """The models, imported when they are asked for: `import mcsp` stays light."""
    if name in ("MCSP", "Classifier"):
        # By name: an import statement would make the model part of every stage's code version (mcsp.code).
        return getattr(import_module("mcsp.model.mcsp"), name)
    raise AttributeError(f"module 'mcsp' has no attribute {name!r}")
