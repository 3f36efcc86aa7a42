/**
 * Our nodes in the reader's language where the frontend forgets it: 1.32, among others, loads its own words of a
 * language after those of all packs, and over them. Elsewhere this says once more what is there already.
 */

import { app } from "./host.js";
import { translations } from "./texts.js";

/** @typedef {Record<string, {name?: string, tooltip?: string}>} Sockets */
/** @type {Record<string, {display_name?: string, description?: string, inputs?: Sockets, outputs?: Sockets}>} */
const nodes = translations.nodeDefs ?? {};
/** @type {Record<string, string>} */
const categories = translations.nodeCategories ?? {};

app.registerExtension({
    name: "camouflage.locale",

    addCustomNodeDefs(definitions) {
        for (const [id, definition] of Object.entries(definitions)) {
            const words = id.startsWith("Camouflage") && nodes[id];
            if (!words) continue;
            definition.display_name = words.display_name ?? definition.display_name;
            definition.description = words.description ?? definition.description;
            definition.category = definition.category.split("/").map(part => categories[part] ?? part).join("/");
            const inputs = { ...definition.input.required, ...definition.input.optional };
            for (const [name, input] of Object.entries(inputs)) {
                if (input[1]) input[1].tooltip = words.inputs?.[name]?.tooltip ?? input[1].tooltip;
            }
            definition.output_tooltips = definition.output_tooltips?.map(
                (tooltip, index) => words.outputs?.[index]?.tooltip ?? tooltip);
        }
    },

    nodeCreated(node) {
        const words = nodes[node.comfyClass ?? ""];
        if (!node.comfyClass?.startsWith("Camouflage") || !words) return;
        for (const input of node.inputs) {
            input.localized_name = words.inputs?.[input.name]?.name ?? input.localized_name;
        }
        node.outputs.forEach((output, index) => {
            output.localized_name = words.outputs?.[index]?.name ?? output.localized_name;
        });
        for (const widget of node.widgets ?? []) widget.label = words.inputs?.[widget.name]?.name ?? widget.label;
    },
});
