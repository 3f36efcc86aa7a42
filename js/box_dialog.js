/** The dialog in which faces are drawn, or, where the photo is not known to the browser, written. */

import { element, openDialog } from "./elements.js";
import { t } from "./texts.js";
import { moved, resized } from "./box_geometry.js";
import { boxList } from "./box_list.js";
import { BoxModel } from "./box_model.js";
import { BoxStage } from "./box_stage.js";

/** @typedef {import("./box_text.js").Box} Box */

const CLOSER = 1.4;
const ARROWS = /** @type {Record<string, [number, number]>} */ ({
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
});

/**
 * Opens the photo with its boxes; every change is kept at once.
 *
 * @param {HTMLImageElement} image loaded
 * @param {Box[]} boxes px of the photo
 * @param {(boxes: Box[]) => void} keep
 * @param {string[]} warnings
 * @returns {HTMLDialogElement}
 */
export function drawIn(image, boxes, keep, warnings) {
    const photo = { width: image.naturalWidth, height: image.naturalHeight };
    const model = new BoxModel(boxes, photo, keep);
    const stage = new BoxStage(model, image);
    const tools = toolbar(model, stage);
    const content = element("div", { className: "camouflage-boxes", onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (!typesIn(event.target) && press(event, model, stage)) event.preventDefault();
    } },
        ...warnings.map(text => element("p", { className: "camouflage-boxes-warning", role: "alert" }, text)), tools,
        element("div", { className: "camouflage-boxes-work" }, stage.element, boxList(model, () => stage.focus())),
        element("p", { className: "camouflage-boxes-help" }, t("Drag on the photo to draw a box around a face. "
            + "Wheel, or + and -: closer and farther. Middle button or two fingers: move the photo. Tab: next box. "
            + "Arrows: move by 1 px, with Shift by 10; with Alt: resize. N: new box. Delete: delete. Ctrl+Z: undo. "
            + "Everything is kept at once.")));
    const dialog = openDialog(t("Faces by hand"), content);
    dialog.addEventListener("cancel", event => {
        if (!stage.dragging) return;
        event.preventDefault();  // Escape ends the drag first
        stage.cancelDrag();
    });
    dialog.addEventListener("close", () => stage.resizing.disconnect());
    stage.showAll();
    stage.focus();
    return dialog;
}

/**
 * Opens the text alone.
 *
 * @param {string} reason why there is nothing to draw on
 * @param {string} text
 * @param {(text: string) => void} keep
 * @returns {HTMLDialogElement}
 */
export function writeIn(reason, text, keep) {
    const example = '[{"x": 10, "y": 20, "width": 30, "height": 40}]';
    const field = element("textarea", {
        className: "camouflage-boxes-text", value: text, rows: 10, spellcheck: false, placeholder: example,
        "aria-label": t("Boxes as JSON"), onchange: () => keep(field.value),
    });
    const dialog = openDialog(t("Faces by hand"), element("p", {}, reason), field,
        element("p", {}, t("One list of boxes counts for all pictures; a list of lists has one for each picture. "
            + "All numbers are px: {example}", { example })));
    field.focus();
    return dialog;
}

/** @param {BoxModel} model @param {BoxStage} stage */
function toolbar(model, stage) {
    /** @param {string} value @param {string} title @param {() => void} onclick */
    const tool = (value, title, onclick) =>
        element("input", {
            type: "button", className: "camouflage-button", value, title, "aria-label": title, onclick,
        });
    const undo = tool(t("Undo"), t("Undo the last change"), () => model.undo());
    const redo = tool(t("Redo"), t("Redo what was undone"), () => model.redo());
    const gone = tool(t("Delete"), t("Delete the chosen box"), () => removeChosen(model, stage));
    const count = element("span", { role: "status" });
    const render = () => {
        undo.disabled = !model.canUndo;
        redo.disabled = !model.canRedo;
        gone.disabled = model.chosen < 0;
        count.textContent = t("Boxes: {count}", { count: model.boxes.length });
    };
    model.watch(render);
    render();
    return element("div", { className: "camouflage-boxes-tools", role: "toolbar", "aria-label": t("Tools") },
        tool(t("New box"), t("A new box in the middle"), () => stage.addBox()), gone, undo, redo,
        tool("−", t("Farther"), () => stage.zoom(1 / CLOSER)), tool("+", t("Closer"), () => stage.zoom(CLOSER)),
        tool(t("Whole photo"), t("Show the whole photo"), () => stage.showAll()), count);
}

/** @param {BoxModel} model @param {BoxStage} stage */
function removeChosen(model, stage) {
    if (model.chosen < 0) return;
    model.remove(model.chosen);
    stage.focus();
}

/** @param {EventTarget | null} target */
const typesIn = target => target instanceof HTMLInputElement && target.type === "number";

/**
 * @param {KeyboardEvent} event
 * @param {BoxModel} model
 * @param {BoxStage} stage
 * @returns {boolean} whether the key means something here
 */
function press(event, model, stage) {
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
        const redo = key === "y" || (key === "z" && event.shiftKey);
        if (!redo && key !== "z") return false;
        if (redo) model.redo();
        else model.undo();
        stage.focus();
        return true;
    }
    const direction = ARROWS[event.key];
    if (direction && model.chosen >= 0) {
        const [dx, dy] = direction.map(step => step * (event.shiftKey ? 10 : 1));
        const box = model.boxes[model.chosen];
        model.set(model.chosen, event.altKey ? resized(box, "se", dx, dy, model.photo)
            : moved(box, dx, dy, model.photo));
        stage.bringIntoView(model.chosen);
        return true;
    }
    /** @type {Record<string, () => void>} */
    const actions = {
        n: () => stage.addBox(),
        delete: () => removeChosen(model, stage),
        backspace: () => removeChosen(model, stage),
        "+": () => stage.zoom(CLOSER),
        "=": () => stage.zoom(CLOSER),
        "-": () => stage.zoom(1 / CLOSER),
        0: () => stage.showAll(),
    };
    if (!actions[key] || event.altKey) return false;
    actions[key]();
    return true;
}
