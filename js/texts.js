/** The words of our own panels in the language of the frontend: English is the key, `locales/<lang>/main.json` the rest. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

/** @returns {Promise<Record<string, any>>} all translations of the frontend's language; empty where there are none */
async function load() {
    try {
        const all = await (await api.fetchApi("/i18n")).json();
        return all[app.extensionManager.setting.get("Comfy.Locale")] ?? {};
    } catch {
        return {};
    }
}

/** What ComfyUI has from all packs in the language of the frontend: `nodeDefs`, `nodeCategories` and so on. */
export const translations = await load();

/** @type {Record<string, string>} */
const known = translations.camouflage ?? {};

/**
 * A text in the reader's language.
 *
 * @param {string} text English, with `{name}` where a value goes
 * @param {Record<string, string | number>} [values]
 * @example t("{count} persons", { count: 3 })
 */
export function t(text, values = {}) {
    return (known[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
