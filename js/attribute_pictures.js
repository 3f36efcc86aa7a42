/** Faces cut out of the pictures that the browser has; they go nowhere but onto a canvas. */

import { element } from "./elements.js";
import { t } from "./texts.js";

/** @typedef {{box_ltrb: [number, number, number, number], score: number,
 *     attributes: import("./attribute_chips.js").Probabilities}} Person box in px */
/** @typedef {{width: number, height: number, persons: Person[]}} Picture as it was read, in px */
/** @typedef {{width: number, height: number}} Size px */

const SIDE = 192;  // px that are drawn; shown half as large
const AROUND = 1.6;  // of the face's longer side

/**
 * Where a face lies in the file: the picture that was read is its centre, scaled until it is covered.
 *
 * @param {Person} person
 * @param {Size} read
 * @param {Size} file
 * @returns {{x: number, y: number, side: number}} a square around the face, px of the file
 */
export function placeInFile({ box_ltrb: [left, top, right, bottom] }, read, file) {
    const scale = Math.max(read.width / file.width, read.height / file.height);
    const side = AROUND * Math.max(right - left, bottom - top) / scale;
    const x = ((left + right - read.width) / scale + file.width) / 2;
    const y = ((top + bottom - read.height) / scale + file.height) / 2;
    return { x: x - side / 2, y: y - side / 2, side };
}

/**
 * A canvas with a neutral head, on which {@link drawFaces} lays the face.
 *
 * @param {number | null} number
 */
export function silhouette(number) {
    const canvas = element("canvas", { width: SIDE, height: SIDE, className: "camouflage-face", role: "img",
        "aria-label": number === null ? t("Everybody") : t("Person {person}", { person: number }) });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.fillStyle = "#777";
    context.beginPath();
    context.arc(SIDE / 2, SIDE * 0.4, SIDE * 0.22, 0, 2 * Math.PI);
    context.ellipse(SIDE / 2, SIDE * 1.02, SIDE * 0.38, SIDE * 0.36, 0, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = "#fff";
    context.font = `bold ${SIDE / 5}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.fillText(number === null ? "∗" : String(number), SIDE / 2, SIDE * 0.47);
    return canvas;
}

/**
 * Draws the faces of one picture, each on its canvas; where the file cannot be shown, the silhouettes stay.
 *
 * @param {string} address
 * @param {Picture} picture
 * @param {HTMLCanvasElement[]} canvases
 */
export async function drawFaces(address, picture, canvases) {
    const image = new Image();
    image.src = address;
    try {
        await image.decode();
    } catch {  // no such file any more, or no picture
        return;
    }
    const file = { width: image.naturalWidth, height: image.naturalHeight };
    picture.persons.forEach((person, number) => {
        const { x, y, side } = placeInFile(person, picture, file);
        const context = /** @type {CanvasRenderingContext2D} */ (canvases[number].getContext("2d"));
        context.fillStyle = "#222";
        context.fillRect(0, 0, SIDE, SIDE);
        context.drawImage(image, x, y, side, side, 0, 0, SIDE, SIDE);
        canvases[number].dataset.drawn = "true";
    });
}
