/** The list of weight files, by what they are for. */

import { element } from "./elements.js";
import { t } from "./texts.js";
import { advice, commercialText, sizeText, stateText } from "./weights_words.js";

/** @typedef {import("./weights_server.js").WeightFile} WeightFile */
/** @typedef {import("./weights_server.js").Facts} Facts */

/**
 * @typedef {object} Shown
 * @property {Set<string>} files by path
 * @property {string} search
 * @property {boolean} missingOnly
 */

const THERE = ["present", "unverified"];

/** Rows are made once and changed in place: what has the focus keeps it. */
export class WeightList {
    element = element("div", { className: "camouflage-weights-list" });
    #nothing = element("p", { className: "camouflage-weights-small" }, t("No file is like that."));
    /** @type {Map<string, WeightRow>} by path */
    #rows = new Map();
    /** @type {Map<string, HTMLElement>} by role */
    #groups = new Map();

    /**
     * @param {Facts} facts
     * @param {Shown} shown
     */
    update(facts, shown) {
        for (const file of facts.files) {
            const row = this.#rows.get(file.file) ?? this.#add(file, facts);
            const part = facts.work?.parts[file.file];
            row.update(file, part);
            row.element.hidden = !shown.files.has(file.file) || !matches(file, shown.search)
                || (shown.missingOnly && THERE.includes(file.state) && !part);
        }
        for (const group of this.#groups.values()) group.hidden = !group.querySelector("li:not([hidden])");
        this.#nothing.hidden = [...this.#groups.values()].some(group => !group.hidden);
        this.element.append(this.#nothing);
    }

    /** @param {WeightFile} file @param {Facts} facts */
    #add(file, facts) {
        const row = new WeightRow(file);
        this.#rows.set(file.file, row);
        const group = this.#groups.get(file.role) ?? this.#addGroup(file, facts);
        /** @type {HTMLElement} */ (group.lastElementChild).append(row.element);
        return row;
    }

    /** @param {WeightFile} file the first of its role @param {Facts} facts */
    #addGroup(file, facts) {
        const needed = facts.pipelines.filter(({ name }) => file.pipelines.includes(name)).map(({ title }) => title);
        const group = element("section", {}, element("h3", {}, file.role),
            element("p", { className: "camouflage-weights-small" },
                t("Licence: {licence}", { licence: file.licence }), "; ", commercialText(file.commercial)),
            element("p", { className: "camouflage-weights-small" }, needed.length
                ? t("Needed by: {workflows}", { workflows: needed.join("; ") }) : t("Optional: no workflow needs it.")),
            element("ul"));
        this.#groups.set(file.role, group);
        this.element.append(group);
        return group;
    }
}

class WeightRow {
    #state = element("span", { className: "camouflage-weights-state" });
    #facts = element("span");
    #folder = element("span", { className: "camouflage-weights-folder" });
    #name = element("span", { className: "camouflage-weights-name" });
    #advice = element("p", { className: "camouflage-weights-advice" });

    /** @param {WeightFile} file */
    constructor(file) {
        const name = /** @type {string} */ (file.file.split("/").pop());
        const source = file.url && element("a", { href: file.url, target: "_blank", rel: "noopener noreferrer",
            "aria-label": t("Where {name} comes from, in a new window", { name }) }, new URL(file.url).host);
        this.element = element("li", {},
            element("div", { className: "camouflage-weights-line" },
                element("span", {}, this.#folder, this.#name), this.#state),
            element("div", { className: "camouflage-weights-small" }, this.#facts, source && " · ", source),
            this.#advice);
        this.element.dataset.file = file.file;
    }

    /** @param {WeightFile} file @param {[number, number | null]} [part] */
    update(file, part) {
        set(this.#state, stateText(file, part));
        const cut = file.path.lastIndexOf("/") + 1;
        set(this.#folder, `models/${file.path.slice(0, cut)}`);
        set(this.#name, file.path.slice(cut));
        set(this.#facts, file.elsewhere ? t("{size}, in another models folder", { size: sizes(file) }) : sizes(file));
        set(this.#advice, part ? "" : advice(file).join(" "));
        this.#advice.classList.toggle("camouflage-weights-fault", Boolean(file.fault));
        this.element.dataset.state = part ? "downloading" : file.state;
    }
}

/** @param {WeightFile} file */
function sizes({ size, size_on_disk: have, state }) {
    if (state === "partly" && have !== null && size) {
        return t("{have} of {size}", { have: sizeText(have), size: sizeText(size) });
    }
    const known = have ?? size;
    return known === null ? t("size unknown") : sizeText(known);
}

/**
 * @param {WeightFile} file
 * @param {string} search
 */
function matches(file, search) {
    const text = [file.role, file.file, file.licence, commercialText(file.commercial), stateText(file)].join(" ");
    return search.toLowerCase().split(" ").every(word => text.toLowerCase().includes(word));
}

/** @param {HTMLElement} where @param {string} text */
function set(where, text) {
    if (where.textContent !== text) where.textContent = text;
}
