"""A drawn world, where everything is known: pictures of persons, judges, and a family of networks trained on them.

It shows how the method behaves where truth is known. It makes no claim about photos.
"""
