/** HTML without a library: elements, our style sheet, and dialogs. Text is always set as text, never as HTML. */

import { t } from "./texts.js";

/**
 * Loads a style sheet of ours into the page.
 *
 * @param {string} name of a file in this folder
 */
export function loadStyle(name) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(name, import.meta.url).href;
    document.head.append(link);
}

loadStyle("camouflage.css");

/**
 * An element; its class begins with `camouflage-` in the style sheet.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [properties] of the element; names with a hyphen, and "role", become attributes, functions named
 *     `onclick` and the like listen
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 * @example element("button", { className: "camouflage-button", onclick: stop }, t("Stop"))
 */
export function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (name.includes("-") || name === "role") made.setAttribute(name, String(value));
        else /** @type {any} */ (made)[name] = value;
    }
    made.append(.../** @type {(Node | string)[]} */ (children.filter(child => child !== null && child !== undefined
        && child !== false)));
    return made;
}

/**
 * Opens a dialog over the page; Escape and its button close it, and nothing of it stays.
 *
 * @param {string} title
 * @param {...(Node | string)} content
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, ...content) {
    const close = element("button", { className: "camouflage-close", "aria-label": t("Close"), onclick: () => box.close() }, "×");
    const box = element("dialog", { className: "camouflage-dialog", "aria-label": title, onclose: () => box.remove() },
        element("header", {}, element("h2", {}, title), close), ...content);
    for (const type of ["keydown", "keyup", "paste", "copy"]) {  // what is typed here is not for the canvas behind
        box.addEventListener(type, event => event.stopPropagation());
    }
    document.body.append(box);
    box.showModal();
    return box;
}
