"""The error that a user's mistake raises."""


class UserError(ValueError):
    """A mistake in what the user gave: a file, an option, or a pair that does not fit.

    Its message says where the mistake is (file, line, column or option) and what to write
    instead, so the pipelines print the message alone, without a traceback.
    """
