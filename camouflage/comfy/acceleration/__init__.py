"""Faster sampling with the same result: what is attached to a MODEL, and what it does when sampling starts."""
