"""Serve the page on which a person looks at the pictures of a run, and decides."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..batch import reviewing
from ..batch.names import Names, secret_of
from ..batch.plan import digests, read_manifest
from ..batch.review_server import Review, ReviewServer
from ..batch.sources import Wanted, open_source
from ..errors import CamouflageError


def main(options: Namespace) -> None:
    """Serves until Ctrl-C. Raises CamouflageError."""
    with make_server(options.output, options.port) as server:
        print(f"The review is at {server.address}", "It is for this machine alone, and shows originals. Ctrl-C ends "
              "it; what was decided is kept.", sep="\n", flush=True)
        server.serve_forever()


def make_server(output: Path, port: int = 0) -> ReviewServer:
    """The server for the review of a run. Raises CamouflageError."""
    manifest = read_manifest(output)
    if manifest is None:
        raise CamouflageError(f"{output} is not the output of a run of anonymize.")
    known = manifest.source
    secret = secret_of(output) if manifest.settings["hash_names"] else ""
    source, _ = open_source(Wanted(tuple(map(Path, known["inputs"])), Names(secret),
                                   tuple(manifest.settings["keep"]), *(text or "" for text in
                                                                       manifest.settings["columns"])))
    units = source.units()
    if digests(units) != manifest.units:
        raise CamouflageError(f"The source {known['root']} is not what it was when the run began. Put the former "
                              "pictures back.")
    entries = reviewing.read(output)
    try:
        return ReviewServer(Review(source, units, output, entries), port)
    except OSError as error:
        raise CamouflageError(f"The page cannot be served at port {port} ({error.strerror}). Name another --port, or "
                              "none.") from error
