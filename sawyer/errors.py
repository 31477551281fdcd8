"""What can go wrong, as one family of exceptions with the exit code each ends a command with.

Every message is one paragraph that says what was given, what is allowed and which key to change; the command
line prints it as it is, without a traceback.
"""


class SawyerError(Exception):
    """A failure of the work. Exit code 1."""

    exit_code = 1


class UsageError(SawyerError):
    """The request itself is wrong: an option, a path, a stage name. Exit code 2."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot be used; the message lists every fault found in it. Exit code 2."""


class DataError(SawyerError):
    """A data source that is missing, empty or of the wrong shape. Exit code 1."""


class ModelError(SawyerError):
    """A backbone, adapter or classifier that cannot be loaded or does not fit. Exit code 1."""


class CheckpointError(SawyerError):
    """A checkpoint, adapter version or manifest that is incomplete or corrupt. Exit code 1."""


class StoreError(SawyerError):
    """The feedback store cannot be opened, read or written. Exit code 1."""


class TrainingError(SawyerError):
    """A training run that cannot start or was stopped because it went wrong. Exit code 1."""


class GateRefused(SawyerError):
    """A candidate was refused promotion. Exit code 3."""

    exit_code = 3
