"""The two ways in which input can be wrong, and what can be wrong with the machine."""

from __future__ import annotations

import errno
import os


class McspError(Exception):
    """A run can't go on. The message is one line: where, what, why, remedy. The CLI prints it without a traceback."""


class Exclusion(Exception):
    """One recording or subject can't be used; the others go on. The message is the reason that the tables show."""


# They concern everybody, not one recording.
MACHINE_FAULTS = {
    errno.ENOSPC: "make room, or let the study's results lie on another disk (snakemake --directory)",
    errno.EDQUOT: "make room in your quota, or let the study's results lie elsewhere (snakemake --directory)",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "mount the disk for writing, or let the study's results lie elsewhere (snakemake --directory)",
    errno.EIO: "have the disk looked at",
}
REMEDIES = {**MACHINE_FAULTS, errno.EACCES: "mend its permissions", errno.EPERM: "mend its permissions"}


def machine_fault(error: BaseException) -> str | None:
    """What is wrong with the machine, in one line, where that is behind `error` (also in words: libraries lose the number);
    None where it is not.
    """
    while error is not None:
        for number, remedy in REMEDIES.items():
            what = os.strerror(number)
            if (isinstance(error, OSError) and error.errno == number) or what in str(error):
                place = getattr(error, "filename", None)
                return f"{place}: {what}: {remedy}" if place else f"{what}: {remedy}"
        error = error.__cause__ or error.__context__
    return None
