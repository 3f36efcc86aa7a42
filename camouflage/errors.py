"""The one exception that a person at the screen is meant to read."""


class CamouflageError(ValueError):
    """Bad input or a missing file. The message says what was wanted, what came, where, and what to do now."""
