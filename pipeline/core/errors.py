"""The one exception a user's mistake raises."""


class MixstyleError(Exception):
    """Bad input, told in one line that names the file or the setting and says what to do.

    The command line prints it without a traceback and exits with status 1.
    """
