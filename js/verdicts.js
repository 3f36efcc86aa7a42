/** What came out, on the nodes that verify and save: the verdict as a coloured word, and each try as it happens. */

import { after, api, app, nodeOf, sourcePictures } from "./host.js";
import { element } from "./elements.js";
import { makePanel } from "./panel.js";
import { openComparison } from "./compare.js";
import { openReport } from "./report.js";
import { t } from "./texts.js";
import { chip, counted, inWords, worst } from "./verdict_words.js";

/** @typedef {import("./verdict_words.js").Report} Report */
/** @typedef {{number: number, of: number, verdicts: Record<string, number>}} Told a try */

const NODES = ["CamouflageVerify", "CamouflageSafeSampler", "CamouflageSaveImage"];
const SAVE = "CamouflageSaveImage";

/** @type {WeakMap<HostNode, {tell: (one: Told) => void, clear: () => void}>} */
const panels = new WeakMap();

/** @param {HostNode} node */
function watch(node) {
    const panel = makePanel(node, "camouflage_verdict");
    /** @type {HTMLElement | null} */
    let badge = null;
    const tries = element("ul", { className: "camouflage-tries", "aria-live": "polite", "aria-label": t("Tries") });
    const show = () => panel.show(...[badge, tries.childNodes.length ? tries : null].filter(part => part !== null));

    after(node, "onExecuted", output => {
        const reports = output?.camouflage_report;
        if (!reports?.length) return;
        badge = badgeOf(reports, node.comfyClass === SAVE ? comparison(node, output.images ?? []) : null);
        show();
    });
    panels.set(node, {
        tell(one) {
            tries.append(element("li", {}, t("Try {number} of {of}: {verdicts}", {
                number: one.number, of: one.of, verdicts: inWords(one.verdicts),
            })));
            show();
            tries.scrollTop = tries.scrollHeight;
        },
        clear() {
            badge = null;
            tries.replaceChildren();
            show();
        },
    });
}

/**
 * @param {Report[]} reports
 * @param {HTMLElement | null} more
 */
function badgeOf(reports, more) {
    const pictures = reports.flatMap(report => report.pictures);
    const persons = pictures.flatMap(picture => picture.checked.persons.map(person => person.verdict));
    const leftOut = reports.reduce((sum, report) => sum + report.left_out.length, 0);
    const lines = [t("Persons: {verdicts}.", { verdicts: inWords(counted(persons)) })];
    if (leftOut) lines.push(t("Left out, no face found: {count}.", { count: leftOut }));
    if (!pictures.every(picture => picture.passes)) lines.push(t("Do not publish this."));
    const open = () => openReport(reports);
    return element("div", { className: "camouflage-badge" },
        element("div", { className: "camouflage-summary", onclick: open },
            chip(worst(reports.map(report => report.verdict))), element("span", {}, lines.join(" "))),
        element("button", { className: "camouflage-button", onclick: open }, t("Report")), more);
}

/**
 * The button that lays the originals under what was saved. They are those of this moment: another photo that is chosen
 * afterwards is not behind these pictures.
 *
 * @param {HostNode} node
 * @param {import("./compare.js").Saved[]} saved
 */
function comparison(node, saved) {
    const originals = sourcePictures(node);
    return element("button", { className: "camouflage-button", onclick: () => openComparison(saved, originals) },
        t("Before and after"));
}

app.registerExtension({
    name: "camouflage.verdicts",
    setup() {
        api.addEventListener("camouflage.try", ({ detail }) => watched(detail.node)?.tell(detail));
        api.addEventListener("executing", ({ detail }) => watched(detail)?.clear());
    },
    nodeCreated(node) {
        if (NODES.includes(node.comfyClass ?? "")) watch(node);
    },
});

/** @param {string | null} id */
function watched(id) {
    const node = id === null ? undefined : nodeOf(id);
    return node && panels.get(node);
}
