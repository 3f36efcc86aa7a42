/** The 40 attributes of one card as chips with three states: one tab stop, arrows from chip to chip. */

import { element } from "./elements.js";
import { changeOf, ownChanges } from "./attribute_edits.js";
import { GROUPS, asRead, rounded, told, wordsOf } from "./attribute_words.js";
import { t } from "./texts.js";

/** @typedef {import("./attribute_edits.js").Scope} Scope */
/** @typedef {import("./attribute_model.js").AttributeModel} AttributeModel */
/** @typedef {import("./attribute_text.js").Change} Change */
/** @typedef {Record<string, number | null>} Probabilities by attribute, as they were read; null: nothing is known */
/**
 * @typedef {object} Chip of an attribute, or of a whole group
 * @property {HTMLInputElement} input
 * @property {string[]} attributes
 */
/**
 * @typedef {object} Chips
 * @property {HTMLElement} element
 * @property {() => void} refresh show what is edited now
 * @property {(words: string) => void} filter show only attributes whose name has these words
 * @property {() => void} focus
 */

const START = 1;  // the value of a set attribute that was not read

/**
 * @param {AttributeModel} model
 * @param {Scope} scope
 * @param {string} who
 * @param {Probabilities | null} read null: it differs from person to person
 * @returns {Chips}
 */
export function makeChips(model, scope, who, read) {
    /** @type {Chip[]} */
    const chips = [];
    const groups = GROUPS.map(({ title, attributes }) => group(title, Object.keys(attributes)));
    const slider = valueSlider((attribute, value) => model.change(scope, [[attribute, value]]));
    /** @type {Chip} */
    let current = chips[1];

    /** @param {string} attribute @returns {Change} */
    const change = attribute => changeOf(model.known, scope, attribute);

    /** @param {string} title @param {string[]} attributes */
    function group(title, attributes) {
        const whole = chip(attributes, "camouflage-attribute-group");
        const each = attributes.map(attribute => chip([attribute], "camouflage-chip"));
        return element("div", { className: "camouflage-attribute-row", role: "group", "aria-label": title },
            element("span", { className: "camouflage-attribute-title" }, title, whole),
            element("span", { className: "camouflage-chips" }, ...each));
    }

    /**
     * An `input`, since the frontend leaves keys alone that are pressed in one: Ctrl+Z is the editor's here.
     *
     * @param {string[]} attributes
     * @param {string} className
     */
    function chip(attributes, className) {
        const input = element("input", {
            type: "button", className, tabIndex: -1, onfocus: () => choose(made),
            onclick: () => { input.focus(); cycle(made); },
        });
        const made = { input, attributes };
        chips.push(made);
        return input;
    }

    /** @param {string[]} attributes */
    const allForgotten = attributes => attributes.every(attribute => change(attribute) === "forget");

    /** @param {Chip} chip */
    function cycle({ attributes }) {
        const [first] = attributes.map(change);
        if (attributes.length > 1) give(attributes, allForgotten(attributes) ? "keep" : "forget");
        else if (first === "keep") give(attributes, opposite(read?.[attributes[0]]));
        else give(attributes, first === "forget" ? "keep" : "forget");
    }

    /** @param {string[]} attributes @param {Change} change */
    const give = (attributes, change) => model.change(scope, attributes.map(attribute => [attribute, change]));

    /** @param {Chip} chip */
    function choose(chip) {
        current = chip;
        refresh();
    }

    function refresh() {
        const own = ownChanges(model.known, scope);
        const visible = chips.filter(({ input }) => !input.hidden);
        if (current.input.hidden && visible.length) current = visible[0];
        for (const chip of chips) {
            chip.input.tabIndex = chip === current ? 0 : -1;
            chip.input.setAttribute("aria-disabled", String(model.readOnly));
            if (chip.attributes.length > 1) showGroup(chip);
            else showChip(chip, own.has(chip.attributes[0]));
        }
        const [attribute] = current.attributes;
        slider.show(current.attributes.length > 1 ? null : attribute, change(attribute), read?.[attribute], model.readOnly);
    }

    /** @param {Chip} chip */
    function showGroup({ input, attributes }) {
        input.value = allForgotten(attributes) ? t("keep all") : t("forget all");
        input.setAttribute("aria-label", `${input.value}: ${attributes.map(wordsOf).join(", ")}`);
    }

    /** @param {Chip} chip @param {boolean} own whether it is edited for this one */
    function showChip({ input, attributes: [attribute] }, own) {
        const now = change(attribute);
        const probability = read?.[attribute];
        const value = now === "keep" ? probability : now;
        const words = { keep: typeof value === "number" ? ` ${asRead(value)}` : read ? " –" : "", forget: "" };
        input.value = `${wordsOf(attribute)}${typeof now === "number" ? ` = ${rounded(now)}` : words[now]}`;
        input.title = attribute;
        input.dataset.state = typeof now === "number" ? "set" : now;
        input.classList.toggle("camouflage-own", own);
        input.style.setProperty("--value", `${typeof value === "number" ? 100 * value : 0}%`);
        input.setAttribute("aria-label", told(attribute, now, read ? probability ?? null : undefined));
    }

    /** @param {KeyboardEvent} event */
    function press(event) {
        if (event.ctrlKey || event.metaKey || event.altKey || event.target !== current.input) return;
        const visible = chips.filter(({ input }) => !input.hidden);
        const next = neighbour(visible, visible.indexOf(current), event.key);
        if (next) next.input.focus();
        else if (event.key === "Delete" || event.key === "Backspace") give(current.attributes, "keep");
        else if (/^\d$/.test(event.key) && current.attributes.length === 1) {
            give(current.attributes, Number(event.key) / 10);
        } else return;
        event.preventDefault();
    }

    refresh();
    return {
        element: element("div", { className: "camouflage-attributes" },
            element("div", { role: "group", "aria-label": who, onkeydown: press }, ...groups), slider.element),
        refresh,
        filter(words) {
            const wanted = words.toLowerCase();
            for (const { input, attributes } of chips) {
                input.hidden = attributes.length > 1 ? words !== ""
                    : !`${attributes[0]} ${wordsOf(attributes[0])}`.toLowerCase().includes(wanted);
            }
            for (const row of groups) row.hidden = !row.querySelector("input:not([hidden])");
            refresh();
        },
        focus: () => current.input.focus(),
    };
}

/** @param {number | null | undefined} probability @returns {number} */
const opposite = probability => (typeof probability === "number" ? Number(probability < 0.5) : START);

/**
 * @param {Chip[]} chips that can be seen
 * @param {number} at
 * @param {string} key
 * @returns {Chip | undefined} undefined: the key does not move
 */
function neighbour(chips, at, key) {
    switch (key) {
        case "ArrowRight": return chips[(at + 1) % chips.length];
        case "ArrowLeft": return chips[(at + chips.length - 1) % chips.length];
        case "Home": return chips[0];
        case "End": return chips.at(-1);
        case "ArrowDown": return inNextLine(chips, at, 1);
        case "ArrowUp": return inNextLine(chips, at, -1);
    }
}

/**
 * The nearest chip of the next line below or above; the same one where there is none.
 *
 * @param {Chip[]} chips
 * @param {number} at
 * @param {1 | -1} way
 */
function inNextLine(chips, at, way) {
    const boxes = chips.map(({ input }) => input.getBoundingClientRect());
    const middle = (/** @type {DOMRect} */ box) => box.left + box.width / 2;
    const beyond = boxes.filter(box => way * (box.top - boxes[at].top) > boxes[at].height / 2);
    const line = way * Math.min(...beyond.map(box => way * box.top));
    const near = beyond.filter(box => Math.abs(box.top - line) < box.height / 2)
        .sort((a, b) => Math.abs(middle(a) - middle(boxes[at])) - Math.abs(middle(b) - middle(boxes[at])));
    return chips[near.length ? boxes.indexOf(near[0]) : at];
}

/** @param {(attribute: string, value: number) => void} give */
function valueSlider(give) {
    let attribute = "";
    const name = element("span", { className: "camouflage-value-name" });
    const number = element("output", {});
    const range = element("input", {
        type: "range", min: "0", max: "1", step: "0.01",
        oninput: () => { number.textContent = rounded(Number(range.value)); },
        onchange: () => give(attribute, Number(range.value)),
    });
    return {
        element: element("div", { className: "camouflage-value" }, name, range, number),
        /**
         * @param {string | null} shown
         * @param {Change} change
         * @param {number | null | undefined} probability
         * @param {boolean} readOnly
         */
        show(shown, change, probability, readOnly) {
            attribute = shown ?? "";
            range.disabled = readOnly || shown === null;
            const value = typeof change === "number" ? change : probability ?? 0.5;
            range.value = String(value);
            range.dataset.state = typeof change === "number" ? "set" : change;
            range.setAttribute("aria-label", shown === null ? t("Value")
                : t("Value of {attribute}", { attribute: wordsOf(shown) }));
            name.textContent = shown === null ? t("Choose an attribute to set its value.")
                : told(shown, change, probability);
            number.textContent = shown !== null && typeof change === "number" ? rounded(change) : "";
        },
    };
}
