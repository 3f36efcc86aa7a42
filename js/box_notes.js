/** What a person has to know before drawing: sentences for the node and the dialog. */

import { t } from "./texts.js";
import { onPhoto, outside } from "./box_text.js";

/** @typedef {import("./box_text.js").Written} Written */
/** @typedef {import("./box_text.js").Size} Size */
/** @typedef {import("./box_source.js").Source} Source */

/**
 * Why the boxes cannot be drawn, only written.
 *
 * @param {Written} written
 * @param {Source} source
 * @returns {string | null} null: they can be drawn
 */
export function cannotDraw(written, source) {
    if (!source.connected) return t("Connect the pictures to 'image'.");
    if (!source.address) {
        return t("The pictures at 'image' do not come from one 'Load Image', so they cannot be shown here. "
            + "Write the boxes as text, in px of 'image'.");
    }
    if (written.problem) return written.problem;
    if (written.boxes.length && !written.size && !source.direct) {
        return t("The boxes in the text are in px of 'image', which is not the photo as it was loaded. "
            + "Change them in the text, or empty it to draw.");
    }
    return null;
}

/**
 * What is to be looked at before the boxes are used.
 *
 * @param {Written} written
 * @param {Source} source
 * @param {Size} photo
 * @param {string} fit value of the widget
 * @returns {string[]} sentences
 */
export function warnings(written, source, photo, fit) {
    const { boxes, other } = onPhoto(written, photo);
    const away = boxes.filter(box => outside(box, photo)).length;
    return [
        other && t("The boxes were drawn on a photo of {was} px, but this one has {is} px: look at every box.",
            { was: `${other.width} x ${other.height}`, is: `${photo.width} x ${photo.height}` }),
        away && t("Boxes outside of the photo: {count}. Move or delete them.", { count: away }),
        source.fit && source.fit !== fit && boxes.length
            && t("'Prepare Image' is set to '{fit}': set 'fit' to the same.", { fit: source.fit }),
        source.between && t("'{title}' comes between the photo and this node. If it cuts, turns or pads the photo, "
            + "the boxes will not lie on the faces.", { title: source.between }),
    ].filter(sentence => typeof sentence === "string" && sentence !== "").map(String);
}
