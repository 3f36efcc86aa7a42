"""Verification: of a result, and while sampling."""

from __future__ import annotations

from collections import Counter

from comfy_api.latest import io

from ..camouflage.comfy.guidance import scale_of
from ..camouflage.comfy.messages import report_facts, show, warn
from ..camouflage.comfy.redaction import Redaction
from ..camouflage.comfy.safe_sampler import Sampling, sample_safely
from ..camouflage.comfy.verification import OriginalBatch, make_verifier, verify
from ..camouflage.errors import CamouflageError
from ..camouflage.verification.names import DETECTOR_CHOICES, RECOGNISER_CHOICES
from ..camouflage.verification.policy import NO_FACE, UNSETTLED, Policy
from ..camouflage.verification.recognition import Threshold
from ..camouflage.verification.redaction import MODES
from ..camouflage.verification.report import Report, Verdict
from ..camouflage.verification.verify import Verifier
from .common import IMAGE_TOOLS, VERIFY, schema
from .types import CalibrationType, RedactionType, ReportType, boxes_input


def _original_input() -> io.Image.Input:
    return io.Image.Input("original", tooltip="The original photos, 64 px a side to 100 megapixels: those that went "
                                              "into the pipeline, as many as there are results (see 'one_original'). A "
                                              "result may have another size, but it must have the same aspect ratio.")


def detectors_input() -> io.Combo.Input:
    return io.Combo.Input("detectors", options=list(DETECTOR_CHOICES), default=DETECTOR_CHOICES[0],
                          tooltip="Detectors that look for faces; whatever one of them finds counts. CenterFace "
                                  "(licence MIT) and dlib's frontal detector (Boost) come with packages; FACER's "
                                  "RetinaFace (MIT) and YuNet (MIT) need their weights in models/camouflage/faces.")


def redaction_input() -> io.Combo.Input:
    return io.Combo.Input("redaction", options=list(MODES), default=MODES[0],
                          tooltip="How a head is replaced: 'solid' (grey, nothing is left), 'mosaic' (at most 6 cells "
                                  "across the head) or 'blur' (the same cells, smoothed). A recogniser trained on "
                                  "mosaics can do better than chance with what the last two leave.")


def no_face_input() -> io.Combo.Input:
    return io.Combo.Input("no_face", options=list(NO_FACE), default=NO_FACE[0],
                          tooltip="What to do where no face is found in the original: 'block' stops with an error, "
                                  "because a detector can miss a face; 'pass' lets the picture through; 'skip' leaves "
                                  "it out, lists it, and continues with the others. Choose 'pass' only if you looked "
                                  "at the picture.")


def _policy_inputs() -> list:
    return [
        io.Combo.Input("policy", options=list(UNSETTLED), default=UNSETTLED[0],
                       tooltip="What to do with a person who is neither safe nor redacted: 'redact' replaces the "
                               "head and verifies again, 'block' stops with an error that names the persons by number "
                               "and box, 'report' only says it ('Save Anonymized' then refuses the picture)."),
        redaction_input(), no_face_input(),
    ]


def _verifier_inputs() -> list:
    return [
        io.Float.Input("threshold", default=0.0, min=0.0, max=2.0, step=0.01,
                       tooltip="Distance up to which two faces count as one person, 0 to 2. 0 takes what the "
                               "recogniser's publishers advise (dlib ResNet 0.6, SFace 0.637), whose false-accept rate "
                               "is not known here. Higher is stricter: more results count as recognisable. Below the "
                               "advice it is refused, unless 'laxer_threshold' is on."),
        detectors_input(),
        io.Combo.Input("recogniser", options=list(RECOGNISER_CHOICES), default=RECOGNISER_CHOICES[0],
                       tooltip="Recogniser that compares the faces: dlib's ResNet (licence CC0) comes with a package; "
                               "SFace (Apache-2.0) needs its weights and YuNet's in models/camouflage/faces. With "
                               "both, a person is safe only if both say so."),
        io.Int.Input("smallest_face", default=32, min=0, max=512, step=1,
                     tooltip="A face with a side shorter than this many px, 0 to 512, is never counted as safe: there "
                             "is too little to compare. 0 trusts every size. 32 is our choice."),
    ]


def _calibration_input() -> io.Input:
    return CalibrationType.Input("calibration", optional=True,
                                 tooltip="A threshold with a measured false-accept rate, from 'Load Calibration', "
                                         "instead of 'threshold' (which must then be 0).")


def known_inputs(whose: str) -> list:
    """The sockets for what the workflow knows of persons."""
    return [
        boxes_input(f"Boxes of faces that you know are in '{whose}' (x, y, width, height in its px), from another node "
                    "or drawn by hand: a list for the picture, or a list for each. They only add: a head in a box that "
                    "no detector found is treated as a person who cannot be compared."),
        io.Mask.Input("person_mask", optional=True,
                      tooltip=f"Where persons are in '{whose}', 1 for a person and 0 for nobody, for instance from the "
                              "segmentation map. It only adds: an area of a person without a face counts as somebody "
                              "who cannot be compared, and is filled solid where heads are redacted."),
    ]


def exempt_input(whose: str, tooltip: str) -> io.Input:
    """The socket for persons who stay as they are by consent."""
    return boxes_input(f"Boxes of faces in '{whose}' (x, y, width, height in its px) of persons who stay as they are "
                       f"because they agreed: a list for the picture, or one for each. {tooltip}", "exempt")


def _last_inputs() -> list:
    """Widgets that came later: they stand last, so that older workflows keep their values."""
    return [
        io.Boolean.Input("laxer_threshold", default=False, optional=True,
                         tooltip="Take a threshold, or a calibration, below what the recogniser's publishers advise. "
                                 "More results then count as safe; node, report and manifest say 'laxer than advised'. "
                                 "Off by default."),
        io.Boolean.Input("one_original", default=False, optional=True,
                         tooltip="One picture in 'original' stands for all results: switch it on only if all of them "
                                 "were made from it. Off by default: then there must be as many originals as results."),
    ]


def _outputs() -> list:
    return [
        io.Image.Output("IMAGE", display_name="image",
                        tooltip="The pictures that were verified, on 256 levels, redacted where the policy asks for "
                                "it. Connect them unchanged to 'Save Anonymized'."),
        ReportType.Output("REPORT", display_name="report",
                          tooltip="The proof, for exactly these pixels: for 'Save Anonymized' and 'Verification "
                                  "Report'."),
        io.String.Output("VERDICT", display_name="verdict",
                         tooltip="In words: the worst verdict, then every person by number and box."),
    ]


def _verifier(threshold: float, detectors: str, recogniser: str, smallest_face: int, calibration: Threshold | None,
              laxer_threshold: bool) -> Verifier:
    if calibration is not None and not isinstance(calibration, Threshold):
        raise CamouflageError("'calibration' must be the output of 'Load Calibration'.")
    return make_verifier(detectors, recogniser, threshold, smallest_face, calibration, laxer_threshold)


def _say(report: Report) -> None:
    """The verdict on the node; a warning where the picture may not leave."""
    counts = Counter(person.verdict for picture in report.pictures for person in picture.persons)
    text = " ".join([f"Verdict: {report.verdict}. Persons: "
                     f"{', '.join(f'{counts[v]} {v}' for v in Verdict if counts[v]) or 0}.", *report.notes])
    if report.skipped:
        text += f" Left out, no face found (counted from 0): {', '.join(map(str, report.skipped))}."
    if all(picture.passes for picture in report.pictures):
        show(text)
    else:
        warn(f"{text} Do not publish this.")


class CamouflageVerify(io.ComfyNode):
    """Can anybody still be recognised?"""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageVerify", display_name="Verify", category=VERIFY,
            search_aliases=["re-identification", "face recognition", "is anonymous", "GDPR", "privacy check",
                            "compare faces"],
            essentials_category=IMAGE_TOOLS,
            advanced=["smallest_face", "laxer_threshold", "one_original"],
            description="Looks for every person of the original in the result, at the same place and wherever a face "
                        "is, and gives each a verdict: safe, recognisable, unverifiable, redacted or exempt. Persons "
                        "who are neither safe nor redacted nor exempt are redacted, blocked or reported. Works on "
                        "pictures from any source.",
            inputs=[
                _original_input(),
                io.Image.Input("anonymized", tooltip="The results to verify, 64 px a side to 100 megapixels, in the "
                                                     "shape of their originals."),
                *_policy_inputs(), *_verifier_inputs(), _calibration_input(),
                RedactionType.Input("redacted", optional=True,
                                    tooltip="From 'Redact', where the results come from there: whose heads were "
                                            "replaced, so that they can count as redacted."),
                io.Guider.Input("guider", optional=True,
                                tooltip="The guider of the sampling; only its anonymization scale is noted, for the "
                                        "manifest."),
                io.Noise.Input("noise", optional=True,
                               tooltip="The noise of the sampling; only its seed is noted, for the manifest."),
                *known_inputs("original"), *_last_inputs(),
                exempt_input("original", "Where the same face is at the same place of the result, the verdict is "
                                         "'exempt', which is never 'safe'; everybody else is still compared with "
                                         "them. A box on which no face or more than one stands exempts nobody. For "
                                         "results of 'Redact'."),
            ],
            outputs=_outputs())

    @classmethod
    def execute(cls, original: io.Image.Type, anonymized: io.Image.Type, policy: str, redaction: str, no_face: str,
                threshold: float, detectors: str, recogniser: str, smallest_face: int,
                calibration: Threshold | None = None, redacted: Redaction | None = None,
                guider: io.Guider.Type | None = None, noise: io.Noise.Type | None = None, boxes: object = None,
                person_mask: io.Mask.Type | None = None, laxer_threshold: bool = False,
                one_original: bool = False, exempt: object = None) -> io.NodeOutput:
        verifier = _verifier(threshold, detectors, recogniser, smallest_face, calibration, laxer_threshold)
        originals = OriginalBatch(original, one_original, boxes, person_mask, exempt)
        images, report = verify(originals, anonymized, verifier, Policy(policy, no_face, redaction), redacted,
                                getattr(noise, "seed", None), scale_of(guider))
        _say(report)
        return io.NodeOutput(images, report, str(report), ui=report_facts(report))


class CamouflageSafeSampler(io.ComfyNode):
    """Samples until nobody is recognised."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageSafeSampler", display_name="Safe Sampler", category=VERIFY,
            search_aliases=["anonymize", "de-identify", "GDPR", "privacy", "sampler custom advanced"],
            advanced=["scale_step", "largest_scale", "smallest_face", "laxer_threshold", "one_original"],
            description="Samples, decodes and verifies. While a person is recognisable it tries again with the next "
                        "seed and a larger anonymization scale; the best attempt goes on, and the policy decides about "
                        "persons who are still neither safe nor redacted. It takes the place of SamplerCustomAdvanced, "
                        "VAE Decode and 'Verify'. It shows no preview, because a preview would not be verified.",
            inputs=[
                io.Noise.Input("noise", tooltip="Its seed is the one of the first attempt; every further attempt uses "
                                                "the next seed."),
                io.Guider.Input("guider", tooltip="Any guider. That of 'CAMOUFLaGE Guider', or one on a model with "
                                                  "'CAMOUFLaGE Guidance', has an anonymization scale, which grows from "
                                                  "attempt to attempt; with others only the seed changes."),
                io.Sampler.Input("sampler", tooltip="As for SamplerCustomAdvanced."),
                io.Sigmas.Input("sigmas", tooltip="As for SamplerCustomAdvanced."),
                io.Latent.Input("latent", tooltip="As for SamplerCustomAdvanced. Of a batch only the pictures in which "
                                                  "somebody is recognisable are sampled again; of each picture the "
                                                  "best attempt counts."),
                io.Vae.Input("vae", tooltip="Decodes every attempt."),
                _original_input(),
                io.Int.Input("tries", default=3, min=1, max=100, step=1,
                             tooltip="Largest number of attempts, 1 to 100. 1 samples once and verifies. Further "
                                     "attempts sample a part of the batch, in which samplers that add noise at every "
                                     "step, such as dpmpp_2m_sde, give a picture other noise than in the whole batch."),
                io.Float.Input("scale_step", default=0.25, min=0.0, max=2.0, step=0.05,
                               tooltip="By how much the anonymization scale grows from attempt to attempt, 0 to 2. 0 "
                                       "changes only the seed. Our choice: 0.25."),
                io.Float.Input("largest_scale", default=2.5, min=0.0, max=3.0, step=0.05,
                               tooltip="The anonymization scale grows up to this value, 0 to 3; 0, and a guider that "
                                       "starts above it, keep the guider's own. Our choice: 2.5; above it pictures "
                                       "lose their structure."),
                *_policy_inputs(), *_verifier_inputs(), _calibration_input(), *known_inputs("original"),
                *_last_inputs(),
            ],
            outputs=[*_outputs(),
                     io.Latent.Output("LATENT", display_name="latent",
                                      tooltip="The latents of the attempts that were kept, before any redaction.")])

    @classmethod
    def execute(cls, noise: io.Noise.Type, guider: io.Guider.Type, sampler: io.Sampler.Type, sigmas: io.Sigmas.Type,
                latent: io.Latent.Type, vae: io.Vae.Type, original: io.Image.Type, tries: int, scale_step: float,
                largest_scale: float, policy: str, redaction: str, no_face: str, threshold: float, detectors: str,
                recogniser: str, smallest_face: int, calibration: Threshold | None = None, boxes: object = None,
                person_mask: io.Mask.Type | None = None, laxer_threshold: bool = False,
                one_original: bool = False) -> io.NodeOutput:
        verifier = _verifier(threshold, detectors, recogniser, smallest_face, calibration, laxer_threshold)
        images, samples, report = sample_safely(
            Sampling(noise, guider, sampler, sigmas, latent, vae),
            OriginalBatch(original, one_original, boxes, person_mask), verifier, tries, scale_step, largest_scale,
            Policy(policy, no_face, redaction))
        _say(report)
        return io.NodeOutput(images, report, str(report), {**latent, "samples": samples}, ui=report_facts(report))


NODES = [CamouflageVerify, CamouflageSafeSampler]
