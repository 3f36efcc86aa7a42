"""Attacks on an anonymization by somebody who knows the method and has photos of other persons to learn from.

:mod:`.trained` learns to recognise anonymized faces, :mod:`.reconstruction` learns to undo the method,
:mod:`.guessing` runs the method on everybody who may have been in the picture. Each takes arrays and returns plain
data: what was done, the split by person, the cost, and rates with their intervals and what chance gives. An attack that
fails proves nothing: a larger network, or more photos, may succeed where this one did not.
"""
