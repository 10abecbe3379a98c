"""`python path/to/src/mcsp <stage>`: the way rules call the library.

A conda environment made by Snakemake has the dependencies but not `mcsp` itself, and Snakemake removes PYTHONPATH
there. Running the package's directory needs neither: the checkout that holds the rules is the code that runs.
"""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    __spec__ = None  # Lightning starts further processes by sys.argv[0] then, not by `-m __main__`

from mcsp.cli import main

if __name__ == "__main__":
    main()
