/** A panel in a node that has no height as long as it has nothing to say. */

import { addPanel, grow } from "./host.js";
import { element, loadStyle } from "./elements.js";

const MARGIN = 10;  // px that the host leaves around an element in a node

loadStyle("seeing.css");

/**
 * @typedef {object} Panel
 * @property {(...children: (Node | string)[]) => void} show these, in place of what was there; nothing hides the panel
 */

/**
 * The panel; the node gets its widget when there is something to show for the first time.
 *
 * @param {HostNode} node
 * @param {string} name of the widget; begins with "camouflage_"
 * @param {Record<string, any>} [properties] of the element that holds what is shown
 * @returns {Panel}
 */
export function makePanel(node, name, properties = {}) {
    const content = element("div", properties);
    const frame = element("div", { className: "camouflage-panel" }, content);
    let height = 0;
    let grown = 0;
    /** @type {HostWidget | undefined} */
    let widget;

    const fit = () => {
        const needed = content.childNodes.length ? content.offsetHeight + 2 * MARGIN : 0;
        if (needed === height) return;
        height = needed;
        node.setSize([node.size[0], node.size[1] - grown]);
        const before = node.size[1];
        grow(node);
        grown = node.size[1] - before;
    };
    new ResizeObserver(fit).observe(content);

    return {
        show(...children) {
            if (!widget && !children.length) return;
            widget ??= addPanel(node, name, frame, () => height);
            content.replaceChildren(...children);
            widget.hidden = !children.length;
            fit();
        },
    };
}
