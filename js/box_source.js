/** The photo behind 'Faces By Hand', and what happens to it on the way. */

import { sourcePictures, widgetOf } from "./host.js";

const BYPASSED = 4;
const LOADERS = ["LoadImage"];
const SAME_PLACE = ["Reroute", "ImageScale", "ImageScaleBy", "ImageScaleToTotalPixels", "ImageScaleToMaxDimension"];

/**
 * @typedef {object} Source
 * @property {string | null} address of the photo; null: the browser does not know it, or there are several
 * @property {boolean} connected whether anything is connected
 * @property {boolean} direct whether the node gets the photo as it was loaded
 * @property {string | null} fit that the node needs because of 'Prepare Image'
 * @property {string | null} between title of a node on the way that may cut, turn or pad the photo
 */

/**
 * @param {HostNode} node
 * @returns {Source}
 */
export function sourceOf(node) {
    const way = wayTo(node);
    const onTheWay = way.filter(each => !LOADERS.includes(each.comfyClass ?? ""));
    const prepare = onTheWay.find(each => each.comfyClass === "CamouflagePrepareImage");
    const unknown = onTheWay.find(each => each !== prepare && !SAME_PLACE.includes(each.comfyClass ?? each.type));
    const addresses = sourcePictures(node, ["image"]) ?? [];
    return {
        address: addresses.length === 1 ? addresses[0] : null,
        connected: (node.inputs.find(slot => slot.name === "image")?.link ?? null) !== null,
        direct: way.length === 1,
        fit: prepare ? (widgetOf(prepare, "fit")?.value === "stretch" ? "stretch" : "crop") : null,
        between: unknown?.title ?? null,
    };
}

/**
 * The nodes from the input 'image' back to the loader, the nearest first, as far as one graph shows them.
 *
 * @param {HostNode} node
 * @returns {HostNode[]}
 */
function wayTo(node) {
    /** @type {HostNode[]} */
    const way = [];
    /** @type {HostNode | null} */
    let next = node;
    for (let steps = 0; next && steps < 100; steps++) {
        const names = ["image", "images", "original", "pixels", ""];
        /** @type {number} */
        const slot = next.inputs?.findIndex(input => names.includes(input.name) && input.link !== null) ?? -1;
        next = slot < 0 ? null : next.getInputNode(slot);
        if (next && next.mode !== BYPASSED) way.push(next);
    }
    return way;
}
