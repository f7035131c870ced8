"""What can go wrong, by whose turn it is to act: the user's (usage) or the machinery's (failure)."""


class UsageError(Exception):
    """The input or the settings can't be used as given. One clear sentence; the command exits with 2."""

    exit_code = 2


class Failure(Exception):
    """The run could not be finished (an engine died, too many bad calls). One clear sentence; exits with 1."""

    exit_code = 1
