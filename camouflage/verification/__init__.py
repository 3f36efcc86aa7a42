"""Proof instead of hope: find every person, compare, judge, redact, report and save (beyond the paper; our choice).

A picture here is ``pixels``: H x W x 3, uint8, RGB, as it will be saved. Boxes are ``box_ltrb`` (left, top, right,
bottom) in continuous pixels of that picture.
"""
