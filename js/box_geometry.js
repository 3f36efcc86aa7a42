/** Moving and resizing boxes on a photo; whole px, never beyond its border. */

/** @typedef {import("./box_text.js").Box} Box */
/** @typedef {import("./box_text.js").Size} Size */
/** @typedef {"n" | "ne" | "e" | "se" | "s" | "sw" | "w" | "nw"} Handle */

/** @type {Handle[]} */
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.round(Math.min(Math.max(value, low), Math.max(low, high)));

/**
 * @param {Box} box
 * @param {Size} photo
 * @returns {Box} on the photo, at least 1 px wide and high
 */
export function inside(box, photo) {
    const width = clamp(box.width, 1, photo.width), height = clamp(box.height, 1, photo.height);
    return { x: clamp(box.x, 0, photo.width - width), y: clamp(box.y, 0, photo.height - height), width, height };
}

/** @param {Box} box @param {number} dx @param {number} dy @param {Size} photo */
export const moved = (box, dx, dy, photo) => inside({ ...box, x: box.x + dx, y: box.y + dy }, photo);

/**
 * Moves the sides that a handle holds; a side stops at the border and 1 px before the opposite side.
 *
 * @param {Box} box
 * @param {Handle} handle
 * @param {number} dx
 * @param {number} dy
 * @param {Size} photo
 * @returns {Box}
 */
export function resized(box, handle, dx, dy, photo) {
    const { x, y, width, height } = inside(box, photo);
    let [left, top, right, bottom] = [x, y, x + width, y + height];
    if (handle.includes("w")) left = clamp(left + dx, 0, right - 1);
    if (handle.includes("e")) right = clamp(right + dx, left + 1, photo.width);
    if (handle.includes("n")) top = clamp(top + dy, 0, bottom - 1);
    if (handle.includes("s")) bottom = clamp(bottom + dy, top + 1, photo.height);
    return { x: left, y: top, width: right - left, height: bottom - top };
}

/** @typedef {{x: number, y: number}} Point */

/**
 * The box between two corners.
 *
 * @param {Point} a
 * @param {Point} b
 * @param {Size} photo
 * @returns {Box}
 */
export function between(a, b, photo) {
    const [left, right] = [a.x, b.x].map(x => clamp(x, 0, photo.width)).sort((one, other) => one - other);
    const [top, bottom] = [a.y, b.y].map(y => clamp(y, 0, photo.height)).sort((one, other) => one - other);
    return inside({ x: left, y: top, width: right - left, height: bottom - top }, photo);
}

/**
 * A new box in the middle of what is seen.
 *
 * @param {Box} seen part of the photo
 * @param {Size} photo
 * @returns {Box}
 */
export function inTheMiddle(seen, photo) {
    const width = Math.min(seen.width, seen.height) / 5, height = width * 1.25;
    const x = seen.x + (seen.width - width) / 2, y = seen.y + (seen.height - height) / 2;
    return inside({ x, y, width, height }, photo);
}
