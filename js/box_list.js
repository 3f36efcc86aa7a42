/** The boxes as numbers that can be typed. */

import { element } from "./elements.js";
import { t } from "./texts.js";
import { inside } from "./box_geometry.js";
import { outside } from "./box_text.js";

/** @typedef {import("./box_model.js").BoxModel} BoxModel */

const SIDES = /** @type {const} */ (["x", "y", "width", "height"]);
const NAMES = { x: t("x"), y: t("y"), width: t("width"), height: t("height") };

/**
 * @param {BoxModel} model
 * @param {() => void} afterDelete
 * @returns {HTMLElement}
 */
export function boxList(model, afterDelete) {
    const heads = ["", ...SIDES.map(side => NAMES[side]), ""].map(text => element("th", { scope: "col" }, text));
    const body = element("tbody");
    const empty = element("p", {}, t("No box yet."));
    const table = element("table", { className: "camouflage-boxes-list" },
        element("thead", {}, element("tr", {}, ...heads)), body);

    const render = () => {
        while (body.rows.length < model.boxes.length) body.append(row(model, body.rows.length, afterDelete));
        while (body.rows.length > model.boxes.length) body.deleteRow(-1);
        model.boxes.forEach((box, index) => {
            const shown = body.rows[index];
            shown.classList.toggle("camouflage-chosen", index === model.chosen);
            shown.classList.toggle("camouflage-outside", outside(box, model.photo));
            shown.title = outside(box, model.photo) ? t("It lies outside of the photo.") : "";
            shown.querySelectorAll("input").forEach((input, side) => {
                if (input.type === "number") input.value = String(Math.round(box[SIDES[side]]));
            });
        });
        table.hidden = model.boxes.length === 0;
        empty.hidden = !table.hidden;
    };
    model.watch(render);
    render();
    return element("div", { className: "camouflage-boxes-numbers" }, empty, table);
}

/** @param {BoxModel} model @param {number} index @param {() => void} afterDelete */
function row(model, index, afterDelete) {
    const cells = SIDES.map(side => element("td", {}, element("input", {
        type: "number", step: "1", "aria-label": t("Box {number}, {side} in px", { number: index + 1, side: NAMES[side] }),
        onfocus: () => model.choose(index),
        onchange: (/** @type {Event} */ event) => {
            const value = /** @type {HTMLInputElement} */ (event.target).valueAsNumber;
            const box = model.boxes[index];
            model.set(index, Number.isFinite(value) ? inside({ ...box, [side]: value }, model.photo) : box);
        },
    })));
    const gone = element("input", {
        type: "button", className: "camouflage-button", value: "×", title: t("Delete"),
        "aria-label": t("Delete box {number}", { number: index + 1 }), onclick: (/** @type {Event} */ event) => {
            event.stopPropagation();  // a click on the row chooses its box
            model.remove(index);
            afterDelete();
        },
    });
    return element("tr", { onclick: () => model.choose(index) },
        element("th", { scope: "row" }, String(index + 1)), ...cells, element("td", {}, gone));
}
