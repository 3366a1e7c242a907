"""The one error of the lab: what happened, to what, and the next step, in words for the person at the terminal."""


class LabError(Exception):
    """The lab could not do what it was asked to; the message ends with a remedy.

    Trying again helps only if the message says so.
    """
