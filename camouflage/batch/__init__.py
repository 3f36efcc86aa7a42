"""Whole datasets: read picture by picture, anonymized by a ComfyUI, written with a verdict beside each.

Data flows one way: a *source* (:mod:`folders`, :mod:`tars`, :mod:`tables`) is listed as *units* of work
(:mod:`photos`); a *plan* (:mod:`plan`) says what is done with them; a *worker* (:mod:`worker`), which owns a ComfyUI,
turns a unit into its part of the output and an account of every picture (:mod:`accounts`); an *engine*
(:mod:`engine`) hands units to workers, one after the other or on Ray Data. Nothing of this knows the host's modules.
"""
