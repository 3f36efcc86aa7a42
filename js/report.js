/** The report as a page in a dialog: no picture, everything else. */

import { element, openDialog } from "./elements.js";
import { t } from "./texts.js";
import { chip, counted, inWords } from "./verdict_words.js";

/** @typedef {import("./verdict_words.js").Report} Report */
/** @typedef {import("./verdict_words.js").Picture} Picture */
/** @typedef {import("./verdict_words.js").Person} Person */
/** @typedef {import("./verdict_words.js").Try} Try */

/** @type {Record<string, string>} */
const KINDS = { original: t("person"), new: t("new face"), area: t("person area") };

/** @param {Report[]} reports */
export function openReport(reports) {
    const said = element("span", { role: "status" });
    const copy = async () => {
        const copied = await copyText(reports.map(report => report.text).join("\n\n"), page);
        said.textContent = copied ? t("Copied.")
            : t("The browser does not allow it. Select the text and copy it by hand.");
    };
    const page = openDialog(t("Verification report"),
        ...reports.flatMap(report => [
            ...report.pictures.map((picture, index) => section(report, picture, index)),
            ...leftOut(report.left_out), ...lookers(report.pictures[0]),
        ]),
        element("footer", { className: "camouflage-buttons" },
            element("button", { className: "camouflage-button", onclick: () => print(page) }, t("Print")),
            element("button", { className: "camouflage-button", onclick: copy }, t("Copy as text")), said));
    page.classList.add("camouflage-report");
    return page;
}

/**
 * @param {Report} report
 * @param {Picture} picture
 * @param {number} index
 */
function section(report, picture, index) {
    const { checked, threshold } = picture;
    const count = report.pictures.length;
    const verdicts = inWords(counted(checked.persons.map(person => person.verdict)));
    return element("section", {},
        count > 1 && element("h3", {}, t("Picture {index} (counted from 0) of {count}", { index, count })),
        element("p", { className: "camouflage-summary" }, chip(checked.verdict),
            picture.passes ? t("This picture passes.") : t("This picture does not pass. Do not publish it."),
            ` ${t("Persons: {verdicts}.", { verdicts })}`),
        checked.moved && element("p", { className: "camouflage-alarm" }, t(
            "The result shows the original {moved}, so nobody is where they were and nothing is proved.",
            { moved: checked.moved })),
        picture.nobody && element("p", {}, t(
            "No face was found in the original, so nothing is proved: a detector can miss one. {choice}", {
                choice: checked.nobody_passed ? t("It was let through because somebody chose so.")
                    : t("Look at the picture before you go on.") })),
        checked.persons.length > 0 && personTable(checked.persons, threshold.distance),
        facesLine(checked.faces),
        checked.tries.length > 0 && tryTable(checked.tries));
}

/** @param {number[]} places of pictures that were left out */
const leftOut = places => (places.length ? [element("p", {}, t(
    "Left out, no face found (counted from 0 as they came): {places}.", { places: places.join(", ") }))] : []);

/** @param {Person} person whose distance is null where it says nothing */
const distanceOf = person => (person.compared ? person.distance : null);

/**
 * @param {Person[]} persons
 * @param {number} threshold
 */
function personTable(persons, threshold) {
    const longest = Math.max(2 * threshold, ...persons.map(person => 1.05 * (distanceOf(person) ?? 0)));
    const scaleHead = element("th", {}, t("Distance, threshold {threshold}", { threshold: threshold.toFixed(3) }),
        element("span", { className: "camouflage-legend" }, element("span", {}, t("same person")),
            element("span", {}, t("another one"))));
    return element("table", {},
        element("thead", {}, element("tr", {},
            element("th", {}, t("Person")), element("th", {}, t("Verdict")), scaleHead,
            element("th", {}, t("Place in px")), element("th", {}, t("Reason")))),
        element("tbody", {}, ...persons.map(person => personRow(person, threshold, longest))));
}

/**
 * @param {Person} person
 * @param {number} threshold
 * @param {number} longest distance on the scale
 */
function personRow(person, threshold, longest) {
    const [left, top, right, bottom] = person.box_ltrb.map(Math.round);
    const distance = distanceOf(person);
    const words = distance === null ? t("nothing to compare") : distance.toFixed(3);
    const nearest = distance === null || person.nearest === null ? null
        : t("nearest: person {number}", { number: person.nearest });
    const names = person.detectors.join(", ");
    const where = { width: right - left, height: bottom - top, left, top };
    return element("tr", {},
        element("th", { scope: "row" }, `${KINDS[person.kind] ?? person.kind} ${person.number}`),
        element("td", {}, chip(person.verdict)),
        element("td", {}, element("span", {}, words),
            scale(threshold / longest, distance === null ? null : distance / longest,
                t("Distance {distance}, threshold {threshold}", { distance: words, threshold: threshold.toFixed(3) })),
            nearest && element("small", {}, nearest)),
        element("td", {}, t("{width} x {height} at {left}, {top}", where)),
        element("td", {}, person.reason, names && element("small", {}, t("Found by {names}", { names }))));
}

/**
 * A distance on a line, with the threshold: up to it the same person, beyond it another one.
 *
 * @param {number} threshold 0 to 1 of the line
 * @param {number | null} at 0 to 1 of the line; null without a dot
 * @param {string} words the same for those who do not see it
 */
function scale(threshold, at, words) {
    const line = element("span", { className: "camouflage-scale", role: "img", "aria-label": words, title: words });
    line.style.setProperty("--threshold", `${100 * threshold}%`);
    if (at !== null) line.append(element("i"));
    line.style.setProperty("--at", `${100 * Math.min(1, at ?? 0)}%`);
    return line;
}

/** @param {{lost: number, new: number, elsewhere: number}} faces */
function facesLine(faces) {
    const parts = [
        faces.lost && t("Faces that are gone without a redaction: {count}.", { count: faces.lost }),
        faces.new && t("Faces where the original has none: {count}.", { count: faces.new }),
        faces.elsewhere && t("Faces of the original at another place: {count}.", { count: faces.elsewhere }),
    ].filter(part => part);
    return parts.length > 0 && element("p", {}, parts.join(" "));
}

/** @param {Try[]} tries */
function tryTable(tries) {
    const heads = [t("Try"), t("Seed"), t("Anonymization scale"), t("Verdicts"), t("Smallest distance"), ""];
    return element("table", { "aria-label": t("Tries") },
        element("thead", {}, element("tr", {}, ...heads.map(head => element("th", {}, head)))),
        element("tbody", {}, ...tries.map((one, index) => element("tr", {},
            element("td", {}, String(index + 1)), element("td", {}, seedOf(one.seed)),
            element("td", {}, one.anonymization_scale === null ? "–" : String(one.anonymization_scale)),
            element("td", {}, inWords(counted(one.verdicts))),
            element("td", {}, one.distance === null ? "–" : one.distance.toFixed(3)),
            element("td", {}, one.kept ? t("kept") : "")))));
}

/** @param {number | null} seed JavaScript rounds what is larger than 2^53 */
const seedOf = seed => (seed === null ? "–" : Number.isSafeInteger(seed) ? String(seed) : `≈ ${seed}`);

/**
 * Who looked, and with which threshold: the same for all pictures of a report.
 *
 * @param {Picture} picture
 */
function lookers({ threshold, recogniser, second_recognisers: second, detectors, notes }) {
    const values = { distance: threshold.distance.toFixed(3), source: threshold.source };
    const rate = threshold.false_accept_rate;
    const known = rate === null
        ? t("Threshold {distance} ({source}): how often two strangers count as one person is unknown.", values)
        : t("Threshold {distance} ({source}), false-accept rate {rate}: that share of pairs of strangers is as near.",
            { ...values, rate });
    const names = (/** @type {{name: string}[]} */ models) => models.map(model => model.name).join(", ");
    return [
        element("p", {}, t("Compared by {recognisers}. Faces were looked for by {detectors}.", {
            recognisers: names([recogniser, ...second]), detectors: names(detectors) }), " ", known),
        ...notes.map(note => element("p", { className: "camouflage-alarm" }, note)),
    ];
}

/** @param {HTMLDialogElement} page */
function print(page) {
    page.classList.add("camouflage-printed");
    document.documentElement.classList.add("camouflage-printing");
    window.print();
    document.documentElement.classList.remove("camouflage-printing");
    page.classList.remove("camouflage-printed");
}

/**
 * @param {string} text
 * @param {HTMLElement} place in the dialog, which alone can have the focus
 * @returns {Promise<boolean>} whether it is on the clipboard
 */
async function copyText(text, place) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {  // an address without https has no such clipboard
        const area = element("textarea", { value: text, className: "camouflage-unseen" });
        place.append(area);
        area.select();
        const copied = document.execCommand("copy");
        area.remove();
        return copied;
    }
}
