"""The one tree of exceptions that a person at the screen is meant to read."""


class CamouflageError(ValueError):
    """Bad input or a missing file. The message says what was wanted, what came, where, and what to do now.

    Attributes:
        exit_code: of a command that ends with it: 2, the person has to do something; 1, ComfyUI failed.
    """

    exit_code = 2
