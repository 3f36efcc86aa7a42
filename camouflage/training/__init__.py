"""Training what Light and the identity control need: from a folder of photos to files that the nodes load."""
