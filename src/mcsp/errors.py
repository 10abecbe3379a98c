"""The two ways in which input can be wrong."""


class McspError(Exception):
    """A run can't go on. The message is one line: where, what, why, remedy. The CLI prints it without a traceback."""


class Exclusion(Exception):
    """One recording or subject can't be used; the others go on. The message is the reason that the tables show."""
