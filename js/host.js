/** The host: finding widgets and pictures of nodes, and adding to nodes, the same way in every frontend. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

export { api, app };

/**
 * Calls `then` after a method of one node, whatever else is hooked on it.
 *
 * @param {HostNode} node
 * @param {"onExecuted" | "onConfigure" | "onConnectionsChange" | "onRemoved"} method
 * @param {(...args: any[]) => void} then
 */
export function after(node, method, then) {
    const before = /** @type {any} */ (node)[method];
    /** @type {any} */ (node)[method] = function (/** @type {any[]} */ ...args) {
        const result = before?.apply(this, args);
        then(...args);
        return result;
    };
}

/**
 * @param {HostNode} node
 * @param {string} name
 * @returns {HostWidget | undefined}
 */
export const widgetOf = (node, name) => node.widgets?.find(widget => widget.name === name);

/**
 * Sets a widget as a person would: the frontend notices, saves it, and can undo it.
 *
 * @param {HostWidget} widget
 * @param {any} value
 */
export function setWidget(widget, value) {
    widget.value = value;
    widget.callback?.(value);
}

/**
 * Calls `then` after a widget was changed, by a person or by {@link setWidget}.
 *
 * @param {HostWidget} widget
 * @param {() => void} then
 */
export function follow(widget, then) {
    const { callback } = widget;
    widget.callback = (/** @type {any[]} */ ...values) => {
        /** @type {any} */ (callback)?.apply(widget, values);
        then();
    };
}

/**
 * Makes several changes that the frontend undoes as one.
 *
 * @param {() => void} changes
 */
export function asOneStep(changes) {
    app.canvas.emitBeforeChange?.();
    changes();
    app.canvas.emitAfterChange?.();
}

/**
 * Puts an element into a node, below its widgets; it is no part of the workflow's values. Classic canvas and Nodes 2.0 alike.
 *
 * @param {HostNode} node
 * @param {string} name of the widget; begins with "camouflage_"
 * @param {HTMLElement} element
 * @param {() => number} height px that it needs now; 0 hides it
 * @returns {HostWidget}
 */
export function addPanel(node, name, element, height) {
    const widget = node.addDOMWidget(name, "camouflage", element, {
        serialize: false, hideOnZoom: false, getMinHeight: height, getMaxHeight: height, getValue: () => "", setValue: () => {},
    });
    /** @type {any} */ (widget).serialize = false;
    return widget;
}

/**
 * Makes a node as high as what is in it needs; it never becomes smaller than the person made it.
 *
 * @param {HostNode} node
 */
export function grow(node) {
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
    node.graph?.setDirtyCanvas(true, true);
}

/**
 * The link into an input, wherever the frontend keeps links.
 *
 * @param {HostNode} node
 * @param {string} input
 * @returns {HostLink | undefined}
 */
function linkInto(node, input) {
    const id = node.inputs?.find(slot => slot.name === input)?.link;
    const graph = node.graph;
    if (id === null || id === undefined || !graph) return undefined;
    if (graph.getLink) return graph.getLink(id);
    return graph.links instanceof Map ? graph.links.get(id) : graph.links[id];
}

/**
 * The node that holds a subgraph.
 *
 * @param {HostGraph} graph
 * @param {HostGraph} [root]
 * @returns {HostNode | undefined}
 */
function holderOf(graph, root = app.rootGraph ?? app.graph) {
    for (const node of root.nodes) {
        if (node.subgraph === graph) return node;
        const inside = node.subgraph && holderOf(graph, node.subgraph);
        if (inside) return inside;
    }
    return undefined;
}

/**
 * The node that the server calls "5", or "5:3": node 3 in the subgraph that node 5 holds.
 *
 * @param {number | string} id
 * @returns {HostNode | undefined}
 */
export function nodeOf(id) {
    /** @type {HostGraph | undefined} */
    let graph = app.rootGraph ?? app.graph;
    /** @type {HostNode | null | undefined} */
    let node;
    for (const part of String(id).split(":")) {
        node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
        graph = node?.subgraph;
    }
    return node ?? undefined;
}

/** Inputs through which a picture goes on to the same place: names of sockets, the nearest first. */
const PICTURES = ["image", "images", "faces", "anonymized", "pixels"];
const BATCHES = /** @type {Record<string, string[]>} */ ({ ImageBatch: ["image1", "image2"] });
const SUBGRAPH_INPUT = -10;
const SUBGRAPH_OUTPUT = -20;

/**
 * Where the picture comes from that a node gives: of a node with an original it is that one, never its result.
 *
 * @param {HostNode} node
 */
function waysBack(node) {
    return node.inputs?.some(slot => slot.name === "original") ? ["original"] : PICTURES;
}

/**
 * The address of the picture that a node works on, as the browser already has it: of the 'Load Image' at the beginning.
 * The picture never leaves the browser for this; no route of ours sends one.
 *
 * @param {HostNode} node
 * @param {string[]} [inputs] where to begin
 * @returns {string | null} null where it comes from something else than a file that was loaded
 */
export function sourcePicture(node, inputs) {
    return sourcePictures(node, inputs)?.[0] ?? null;
}

/**
 * The addresses of all pictures of the batch that a node works on, see {@link sourcePicture}.
 *
 * @param {HostNode} node
 * @param {string[]} [inputs]
 * @returns {string[] | null} null where one of them comes from something else than a file that was loaded
 */
export function sourcePictures(node, inputs = waysBack(node)) {
    for (const name of inputs) {
        const link = linkInto(node, name);
        const found = link && picturesOf(/** @type {HostGraph} */ (node.graph), link);
        if (found) return found;
    }
    return null;
}

/**
 * @param {HostGraph} graph
 * @param {HostLink} link in it
 * @returns {string[] | null}
 */
function picturesOf(graph, link) {
    if (Number(link.origin_id) === SUBGRAPH_INPUT) {
        const holder = holderOf(graph);
        return holder ? sourcePictures(holder, [holder.inputs[link.origin_slot]?.name]) : null;
    }
    const origin = graph.getNodeById(link.origin_id);
    if (!origin) return null;
    if (origin.subgraph) {
        const inside = linksOf(origin.subgraph).find(
            each => Number(each.target_id) === SUBGRAPH_OUTPUT && each.target_slot === link.origin_slot);
        return inside ? picturesOf(origin.subgraph, inside) : null;
    }
    const file = origin.comfyClass === "LoadImage" ? widgetOf(origin, "image")?.value : null;
    if (typeof file === "string") return [inputAddress(file)];
    const batch = BATCHES[origin.comfyClass ?? ""];
    if (!batch) return sourcePictures(origin);
    const parts = batch.map(name => sourcePictures(origin, [name]));
    return parts.every(part => part !== null) ? parts.flat() : null;
}

/**
 * @param {HostGraph} graph
 * @returns {HostLink[]}
 */
const linksOf = graph => graph.links instanceof Map ? [...graph.links.values()] : Object.values(graph.links);

/** @param {string} file as 'Load Image' names it: "folder/name.png" or "name.png [output]" */
function inputAddress(file) {
    const [, path, type] = /** @type {RegExpMatchArray} */ (file.match(/^(.*?)(?: \[(input|output|temp)\])?$/));
    const parts = path.split("/");
    const query = new URLSearchParams({ filename: /** @type {string} */ (parts.pop()), subfolder: parts.join("/"), type: type ?? "input" });
    return api.apiURL(`/view?${query}`);
}
