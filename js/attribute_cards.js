/** A card of the attribute editor: who it is, what is edited, and the chips, which are made when they are shown. */

import { element } from "./elements.js";
import { nameOf, ownChanges, scopeOf } from "./attribute_edits.js";
import { makeChips } from "./attribute_chips.js";
import { silhouette } from "./attribute_pictures.js";
import { inWords, whoIs } from "./attribute_words.js";
import { t } from "./texts.js";

/** @typedef {import("./attribute_edits.js").Scope} Scope */
/** @typedef {import("./attribute_model.js").AttributeModel} AttributeModel */
/** @typedef {import("./attribute_pictures.js").Person} Person */
/**
 * @typedef {object} Card
 * @property {HTMLElement} element
 * @property {HTMLCanvasElement | null} face
 * @property {() => void} refresh show what is edited now
 * @property {(words: string) => void} filter
 * @property {() => boolean} focus whether there is a chip to focus
 */

/** @param {string} value @param {() => void} onclick @param {string} [label] */
export const button = (value, onclick, label = value) =>
    element("input", { type: "button", className: "camouflage-button", value, onclick, "aria-label": label });

/**
 * Shows whether a button does something; it keeps the focus in any case.
 *
 * @param {HTMLElement} tool
 * @param {boolean} on
 */
export const enable = (tool, on) => tool.setAttribute("aria-disabled", String(!on));

/**
 * @param {AttributeModel} model
 * @param {Scope} scope
 * @param {Person | null} person who was found
 * @param {boolean} open whether the attributes are shown at once
 * @returns {Card}
 */
export function makeCard(model, scope, person, open) {
    const who = whoIs(scope, model.counts.length > 1);
    const face = person && silhouette(scope.person);
    const summary = element("p", { className: "camouflage-card-edits" });
    const toAll = button(t("Apply to everybody"), () => model.giveToAll(scope),
        t("Apply the edits of {who} to everybody", { who }));
    const clear = button(t("Clear"), () => model.clear(scope), t("Clear the edits of {who}", { who }));
    const more = button("", () => show(!chips || place.hidden));
    const place = element("div", { className: "camouflage-card-chips", hidden: true });
    /** @type {import("./attribute_chips.js").Chips | null} */
    let chips = null;
    let words = "";

    /** @param {boolean} shown */
    function show(shown) {
        if (shown && !chips) {
            chips = makeChips(model, scope, who, person?.attributes ?? null);
            chips.filter(words);
            place.append(chips.element);
        }
        place.hidden = !shown;
        more.value = shown ? t("Hide attributes") : t("Show attributes");
        more.setAttribute("aria-expanded", String(shown));
        more.setAttribute("aria-label", `${more.value}: ${who}`);
    }

    function refresh() {
        const own = ownChanges(model.known, scope);
        summary.textContent = own.size ? inWords(own) : t("No edits.");
        for (const tool of [toAll, clear]) enable(tool, !model.readOnly && own.size > 0);
        if (!place.hidden) chips?.refresh();
    }

    show(open);
    refresh();
    return {
        element: element("section", { className: face ? "camouflage-card" : "camouflage-card camouflage-faceless", "aria-label": who },
            face,
            element("div", { className: "camouflage-card-head" },
                element("h4", {}, who), person && element("p", {}, placeOf(person)), summary,
                element("div", { className: "camouflage-buttons" }, more, nameOf(scope) !== "all" && toAll, clear)),
            place),
        face,
        refresh,
        filter(wanted) {
            words = wanted;
            chips?.filter(words);
            if (words && !chips) show(true);
        },
        focus() {
            if (place.hidden) return false;
            chips?.focus();
            return true;
        },
    };
}

/** @param {Person} person */
function placeOf({ box_ltrb, score }) {
    const [left, top, right, bottom] = box_ltrb.map(Math.round);
    return t("{width} x {height} px at {left}, {top}; score {score}", {
        width: right - left, height: bottom - top, left, top, score: score.toFixed(2),
    });
}

/**
 * A card of somebody whom the text names and nobody found.
 *
 * @param {AttributeModel} model
 * @param {string} name in the text
 * @returns {HTMLElement}
 */
export function missingCard(model, name) {
    const scope = scopeOf(name);
    const who = t("{who} (not found now)", { who: whoIs(scope, model.counts.length > 1 || (scope.picture ?? 0) > 0) });
    const changes = model.edits.persons.get(name) ?? new Map();
    return element("section", { className: "camouflage-card camouflage-faceless camouflage-missing", "aria-label": who },
        element("div", { className: "camouflage-card-head" }, element("h4", {}, who),
            element("p", { className: "camouflage-card-edits" }, inWords(changes) || t("No edits.")),
            button(t("Delete"), () => model.delete(name), t("Delete the edits of {who}", { who }))));
}
