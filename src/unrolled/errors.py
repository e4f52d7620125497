"""What can go wrong, in three names: the command line turns each into one sentence and an exit code."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class UnrolledError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = EXIT_FAILED


class InputError(UnrolledError, ValueError):
    """What was given cannot be used: a file, a flag, a shape. Exit code 2."""

    exit_code = EXIT_USAGE


class RunError(UnrolledError, RuntimeError):
    """The run failed though its input was good: a full disk, a loss that is not a number. Exit code 1."""

    exit_code = EXIT_FAILED


class Interrupted(UnrolledError):
    """The user pressed Ctrl-C; a checkpoint is there to resume from. Exit code 130."""

    exit_code = EXIT_INTERRUPTED
