"""Weights on this machine: which are there, how to get the others, whether they are what they should be.

Standard library only, so that it works before any environment is built, and inside ComfyUI.
"""
