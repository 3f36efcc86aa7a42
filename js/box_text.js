/** The text of 'Faces By Hand', which is the truth: boxes in px, with the size of the photo they were drawn on. */

import { t } from "./texts.js";

/** @typedef {{x: number, y: number, width: number, height: number}} Box px, x and y of the upper left corner */
/** @typedef {{width: number, height: number}} Size px */
/** @typedef {{boxes: Box[], size: Size | null, problem: string | null}} Written size: of the photo, or not said */

const SAME_SHAPE = 0.03;
const SIDES = /** @type {const} */ (["x", "y", "width", "height"]);

/** @param {any} value @returns {value is Box} */
const isBox = value => typeof value === "object" && value !== null && SIDES.every(side => Number.isFinite(value[side]))
    && value.width !== 0 && value.height !== 0;

/** @param {any} value @returns {value is Size} */
const isSize = value => typeof value === "object" && value !== null && value.width > 0 && value.height > 0;

/** @param {string} problem @returns {Written} */
const refused = problem => ({ boxes: [], size: null, problem });

/**
 * Reads what can be drawn; `problem` says why something cannot.
 *
 * @param {string} text
 * @returns {Written}
 */
export function read(text) {
    let value;
    try {
        value = text.trim() ? JSON.parse(text) : [];
    } catch {
        return refused(t("The text of 'boxes' is not JSON. Correct it, or empty it to draw."));
    }
    const size = value?.drawn_on;
    if (size !== undefined) {
        if (!isSize(size)) return refused(t("'drawn_on' needs a width and a height in px. Empty the text to draw."));
        value = value.boxes;
    } else if (isBox(value)) {
        value = [value];
    }
    if (Array.isArray(value) && value.length > 1 && value.every(Array.isArray)) {
        return refused(t("The text has a list of boxes for each of {count} pictures. Change it in the text.",
            { count: value.length }));
    }
    if (Array.isArray(value) && value.length === 1 && Array.isArray(value[0])) value = value[0];
    if (!Array.isArray(value)) {
        return refused(t("The text of 'boxes' is no list of boxes. Correct it, or empty it to draw."));
    }
    const wrong = value.findIndex(box => !isBox(box));
    if (wrong >= 0) {
        return refused(t("Box {number} in the text needs x, y, width and height in px. Correct it, or empty the text "
            + "to draw.", { number: wrong + 1 }));
    }
    return { boxes: value.map(upright), size: size ?? null, problem: null };
}

/** @param {Box} box @returns {Box} without other keys; one that was written backwards is turned round */
const upright = ({ x, y, width, height }) => ({
    x: Math.min(x, x + width), y: Math.min(y, y + height), width: Math.abs(width), height: Math.abs(height),
});

/**
 * @param {Box[]} boxes in px of the photo
 * @param {Size} size of the photo
 * @returns {string} a box a line; empty without boxes
 */
export function write(boxes, size) {
    if (!boxes.length) return "";
    const json = (/** @type {object} */ value) => JSON.stringify(value).replaceAll(/[:,]/g, "$& ");
    return `{"drawn_on": ${json(size)}, "boxes": [\n${boxes.map(json).join(",\n")}\n]}`;
}

/**
 * Boxes of the text on the photo that is there now: scaled where it has the same shape as the one they were drawn on.
 *
 * @param {Written} written
 * @param {Size} photo
 * @returns {{boxes: Box[], other: Size | null}} other: size of the photo they were drawn on, where its shape is another
 */
export function onPhoto({ boxes, size }, photo) {
    if (!size) return { boxes, other: null };
    const [across, down] = [photo.width / size.width, photo.height / size.height];
    if (Math.abs(across / down - 1) > SAME_SHAPE) return { boxes, other: size };
    return {
        boxes: boxes.map(({ x, y, width, height }) => ({
            x: x * across, y: y * down, width: width * across, height: height * down,
        })),
        other: null,
    };
}

/**
 * Whether nothing of a box is on the photo.
 *
 * @param {Box} box
 * @param {Size} photo
 */
export const outside = (box, photo) => box.x >= photo.width || box.y >= photo.height
    || box.x + box.width <= 0 || box.y + box.height <= 0;
