/** What verdicts are called, and how many there are of each. */

import { element } from "./elements.js";
import { t } from "./texts.js";

/** The best first. @type {Record<string, string>} */
const WORDS = {
    safe: t("safe"), redacted: t("redacted"), exempt: t("exempt"), nobody: t("nobody"), unverifiable: t("unverifiable"),
    recognisable: t("recognisable"),
};
const ORDER = Object.keys(WORDS);

/**
 * @typedef {object} Person
 * @property {number} number
 * @property {[number, number, number, number]} box_ltrb px
 * @property {string} verdict
 * @property {number | null} distance
 * @property {number | null} nearest
 * @property {string} reason
 * @property {string[]} detectors
 * @property {string} kind "original", "new" or "area"
 * @property {boolean} compared whether the distance says something
 *
 * @typedef {object} Try
 * @property {number | null} seed
 * @property {number | null} anonymization_scale
 * @property {string[]} verdicts
 * @property {number | null} distance
 * @property {boolean} kept
 *
 * @typedef {object} Picture
 * @property {boolean} passes
 * @property {boolean} nobody
 * @property {{width: number, height: number, verdict: string, persons: Person[], tries: Try[], moved: string | null,
 *     nobody_passed: boolean, faces: {lost: number, new: number, elsewhere: number}}} checked
 * @property {{distance: number, source: string, false_accept_rate: number | null}} threshold
 * @property {{name: string}} recogniser
 * @property {{name: string}[]} second_recognisers
 * @property {{name: string}[]} detectors
 * @property {string[]} notes
 *
 * @typedef {object} Report a node's output `camouflage_report`
 * @property {string} verdict
 * @property {Picture[]} pictures
 * @property {number[]} left_out
 * @property {string} text
 */

/** @param {string} verdict */
export const wordOf = verdict => WORDS[verdict] ?? verdict;

/**
 * The worst of several verdicts.
 *
 * @param {string[]} verdicts at least one
 */
export const worst = verdicts => verdicts.reduce((a, b) => (ORDER.indexOf(b) > ORDER.indexOf(a) ? b : a));

/**
 * @param {string[]} verdicts of persons
 * @returns {Record<string, number>}
 */
export function counted(verdicts) {
    /** @type {Record<string, number>} */
    const counts = {};
    for (const verdict of verdicts) counts[verdict] = (counts[verdict] ?? 0) + 1;
    return counts;
}

/**
 * "2 safe, 1 redacted".
 *
 * @param {Record<string, number>} counts
 */
export const inWords = counts => ORDER.filter(verdict => counts[verdict])
    .map(verdict => `${counts[verdict]} ${wordOf(verdict)}`).join(", ") || "0";

/**
 * The verdict as a coloured word.
 *
 * @param {string} verdict
 */
export const chip = verdict => element(
    "strong", { className: `camouflage-verdict camouflage-${verdict}` }, wordOf(verdict));
