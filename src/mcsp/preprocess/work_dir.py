"""Where intermediate files lie, by the option `work_dir` of both routes."""

from __future__ import annotations

import os
from pathlib import Path

from mcsp.errors import McspError


def work_dir(route: str, given: str) -> Path:
    """The directory that `<route>.work_dir` means in this job, variables and ~ being the job's. Raises McspError when a
    variable is not set.
    """
    place = os.path.expandvars(given)
    if "$" in place:
        raise McspError(f"{route}.work_dir = {given}: not set in this job: name a directory, or a variable that is set")
    return Path(os.path.abspath(os.path.expanduser(place)))
