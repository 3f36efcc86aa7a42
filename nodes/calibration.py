"""Calibration: a threshold whose false-accept rate was measured."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy import calibrations
from ..camouflage.comfy.messages import show, warn
from ..camouflage.comfy.weights import FOLDER
from ..camouflage.verification.calibration import AUTOMATIC_RATE, RATES
from .common import VERIFY, FileInput, schema
from .types import CalibrationType

_NONE = "no calibration yet"
_AUTO = "auto"
_RATES = [_AUTO, *(f"{rate:g}" for rate in RATES)]


class CamouflageCalibration(io.ComfyNode):
    """Loads a threshold that was calibrated."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageCalibration", display_name="Load Calibration", category=VERIFY,
            search_aliases=["false accept rate", "FAR", "face recognition threshold"],
            description="Loads a threshold for the face recogniser with a false-accept rate (FAR) that was measured: "
                        "how often two strangers look like one person to it. The file comes from `python run.py "
                        "calibrate FOLDER`, run on your own photos. Without a calibration no rate is known.",
            inputs=[
                FileInput("file", options=calibrations.names() or [_NONE],
                          tooltip=f"File in models/{FOLDER}/{calibrations.UNDER}, written by `python run.py "
                                  "calibrate FOLDER`. It holds counts and rates: no names, pictures or "
                                  "embeddings. New files appear after a reload of the page."),
                io.Combo.Input("false_accept_rate", options=_RATES, default=_AUTO,
                               tooltip="Share of pairs of strangers, 0.0001 to 0.1, that count as the same person: at "
                                       "0.001 it is 1 in 1000. For anonymization the higher rate is the stricter one: "
                                       "its threshold is larger, so more results count as recognisable, also some "
                                       f"that are not. '{_AUTO}' takes {AUTOMATIC_RATE:g}, or {RATES[0]:g} where the "
                                       "photos support no more, and never less than the distance that the "
                                       "recogniser's publishers advise. A rate that the photos cannot support is "
                                       "refused; 0 is no choice, for no number of photos proves it."),
            ],
            outputs=[CalibrationType.Output("CALIBRATION", display_name="calibration",
                                            tooltip="The threshold with its rate, for 'Verify' and 'Safe Sampler'. "
                                                    "It fits the recogniser that was calibrated and no other.")])

    @classmethod
    def fingerprint_inputs(cls, file: str, false_accept_rate: str) -> str:
        """The file's digest: a changed file is read again."""
        return calibrations.digest(file)

    @classmethod
    def execute(cls, file: str, false_accept_rate: str) -> io.NodeOutput:
        calibration = calibrations.read(file)
        threshold = (calibration.automatic() if false_accept_rate == _AUTO
                     else calibration.threshold(float(false_accept_rate)))
        if threshold.laxer:
            warn(f"Threshold {threshold}. 'Verify' and 'Safe Sampler' refuse it unless 'laxer_threshold' is on. Choose "
                 f"'{_AUTO}' or a higher rate.")
        else:
            show(f"Threshold {threshold}")
        return io.NodeOutput(threshold)


NODES = [CamouflageCalibration]
