"""The errors of this package: bad input, a broken dataset, a source that does not answer."""


class DataError(ValueError):
    """One line that names the place, the value and what to do. The command prints it and exits with 2."""


class NoSourceError(DataError):
    """None of the sources of a dataset answered. The command exits with 3, so that a script can take another."""
