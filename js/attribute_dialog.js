/** The attribute editor: presets, search and undo above, a card for everybody and for each person below. */

import { element, openDialog } from "./elements.js";
import { EVERYBODY, missing, nameOf, ownChanges, scopes } from "./attribute_edits.js";
import { button, enable, makeCard, missingCard } from "./attribute_cards.js";
import { drawFaces } from "./attribute_pictures.js";
import { t } from "./texts.js";

/** @typedef {import("./attribute_cards.js").Card} Card */
/** @typedef {import("./attribute_edits.js").Scope} Scope */
/** @typedef {import("./attribute_model.js").AttributeModel} AttributeModel */
/** @typedef {import("./attribute_pictures.js").Picture} Picture */

const FEW = 4;  // persons whose attributes are all shown at once; of more, those of the first

/**
 * @param {AttributeModel} model
 * @param {Picture[]} pictures as they were read
 * @param {string[] | null} addresses of these pictures; null: the browser does not have them
 * @param {string[]} presets that the node offers
 * @param {string[]} notices
 * @returns {HTMLDialogElement}
 */
export function openEditor(model, pictures, addresses, presets, notices) {
    /** @type {Map<string, Card>} */
    const cards = new Map();
    const notes = element("div", {});
    const place = element("div", { className: "camouflage-cards" });
    const persons = model.counts.reduce((sum, count) => sum + count, 0);
    let search = "";
    let shown = "";

    /** @param {Scope} scope */
    function cardOf(scope) {
        const name = nameOf(scope);
        const known = cards.get(name);
        if (known) return known;
        const person = scope.picture === null || scope.person === null ? null
            : pictures[scope.picture].persons[scope.person];
        const open = person ? persons <= FEW || ![...cards.values()].some(card => card.face)
            : ownChanges(model.known, scope).size > 0;
        const made = makeCard(model, scope, person, open);
        made.filter(search);
        cards.set(name, made);
        return made;
    }

    /** Lays the cards out; only where others are needed than before, for what is laid out anew loses the focus. */
    function arrange() {
        const wanted = scopes(model.edits, model.counts);
        const gone = missing(model.edits, model.counts);
        const state = JSON.stringify([wanted, gone.map(name => [name, [...model.edits.persons.get(name) ?? []]])]);
        if (state === shown) return;
        shown = state;
        const several = pictures.length > 1;
        place.replaceChildren(
            ...wanted.shared.map(scope => cardOf(scope).element),
            ...wanted.pictures.flatMap((each, picture) => [
                ...several ? [element("h3", {}, t("Picture {picture} (counted from 0)", { picture }))] : [],
                ...each.map(scope => cardOf(scope).element),
                ...pictures[picture].persons.length ? [] : [element("p", {}, t("No face was found in this picture."))],
            ]),
            ...gone.length ? [element("h3", {}, t("Not found now")), element("p", {}, t("The node refuses these edits as "
                + "long as nobody is there for them. Lower 'threshold' in 'Face Attributes', or delete them.")),
            ...gone.map(name => missingCard(model, name))] : []);
    }

    function refresh() {
        arrange();
        for (const card of cards.values()) card.refresh();
        tools.refresh();
        notes.replaceChildren(...warnings(model, notices));
        if (!dialog.contains(document.activeElement)) tools.focus();
    }

    const tools = toolbar(model, presets, words => {
        search = words;
        for (const card of cards.values()) card.filter(words);
    });
    const content = element("div", {
        className: "camouflage-attribute-editor",
        onkeydown: (/** @type {KeyboardEvent} */ event) => {
            if (press(event, model)) event.preventDefault();
        },
    }, tools.element, notes, place, element("p", { className: "camouflage-attribute-help" }, t(
        "Click an attribute, or press Space: keep, set, forget. 0 to 9: set to tenths. Delete: keep. Arrows: next "
        + "attribute. Tab: next card. Ctrl+Z: undo. The narrowest edit wins: a person's before everybody's. "
        + "Everything is kept at once.")));
    arrange();
    const dialog = openDialog(t("Edit attributes"), content);
    dialog.addEventListener("mousedown", event => {  // a click beside everything leaves the focus where it is
        if (!(/** @type {Element} */ (event.target)).closest("input, button, label")) event.preventDefault();
    });
    model.watch(refresh);
    refresh();
    if (![...cards].some(([name, card]) => name !== nameOf(EVERYBODY) && card.focus())) tools.focus();
    addresses?.forEach((address, picture) => {
        const faces = pictures[picture].persons.map((_, person) => cards.get(nameOf({ picture, person }))?.face);
        drawFaces(address, pictures[picture], /** @type {HTMLCanvasElement[]} */ (faces));
    });
    return dialog;
}

/** @param {...(Node | string)} content */
const notice = (...content) => element("p", { className: "camouflage-attribute-notice", role: "alert" }, ...content);

/** @param {AttributeModel} model @param {string[]} notices */
function warnings(model, notices) {
    const made = notices.map(text => notice(text));
    if (model.problem !== null) {
        made.push(notice(t("The node refuses the text of 'edits', so nothing of it is changed here. {problem}",
            { problem: model.problem }), " ", t("Correct it in the node, or start anew: this empties the text."), " ",
        ...model.locked ? [] : [button(t("Start anew"), () => model.startAnew())]));
    } else if (model.conflict !== null) {
        made.push(notice(t("'preset' is '{preset}', but the text names '{named}'. Choose one above.",
            { preset: model.preset, named: model.conflict })));
    }
    return made;
}

/**
 * @param {AttributeModel} model
 * @param {string[]} presets
 * @param {(words: string) => void} find
 */
function toolbar(model, presets, find) {
    const undo = button(t("Undo"), () => model.undo(), t("Undo the last change"));
    const redo = button(t("Redo"), () => model.redo(), t("Redo what was undone"));
    const search = element("input", {
        type: "search", className: "camouflage-search", placeholder: t("Search attributes"),
        "aria-label": t("Search attributes"), oninput: () => find(search.value.trim()),
    });
    const group = `camouflage-preset-${Math.random()}`;
    const radios = presets.map(preset => element("input", {
        type: "radio", name: group, value: preset, onchange: () => model.choose(preset),
    }));
    return {
        element: element("div", { className: "camouflage-attribute-tools" },
            element("fieldset", {}, element("legend", {}, t("Preset: what is kept before the edits below")),
                ...radios.map(radio => element("label", {}, radio, radio.value))),
            element("div", { className: "camouflage-buttons" }, search, undo, redo)),
        focus: () => undo.focus(),
        refresh() {
            enable(undo, model.canUndo);
            enable(redo, model.canRedo);
            for (const radio of radios) {
                radio.checked = radio.value === model.preset;
                radio.disabled = model.locked;
            }
        },
    };
}

/**
 * @param {KeyboardEvent} event
 * @param {AttributeModel} model
 * @returns {boolean} whether the key means something here
 */
function press(event, model) {
    const target = /** @type {HTMLInputElement} */ (event.target);
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || target.type === "search") return false;
    if (key === "y" || (key === "z" && event.shiftKey)) model.redo();
    else if (key === "z") model.undo();
    else return false;
    return true;
}
