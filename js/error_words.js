/** What the host says of an input before it runs anything, in plain words with the fix. */

import { t } from "./texts.js";

/**
 * @typedef {object} InputError of one input, as the host gives it
 * @property {string} type
 * @property {string} message
 * @property {string} details
 * @property {{input_name?: string, input_config?: [any, Record<string, any>] | null, received_value?: any,
 *     received_type?: any}} [extra_info]
 */

/**
 * @param {InputError} error
 * @param {HostNode} node
 * @returns {string}
 */
export function plainWords(error, node) {
    const told = error.extra_info ?? {};
    const { input_name: input = "", input_config: config, received_value: value } = told;
    const [kind, limits] = config ?? ["", {}];
    switch (error.type) {
        case "required_input_missing":
            return node.widgets?.some(widget => widget.name === input) ? t("Choose a value for '{input}'.", { input })
                : t("Connect '{input}'.", { input });
        case "bad_linked_input":
            return t("Connect '{input}' again: its link leads nowhere.", { input });
        case "return_type_mismatch":
            return t("'{input}' takes {wanted}, but {received} is connected. Connect another output.",
                { input, wanted: String(kind), received: String(told.received_type) });
        case "value_smaller_than_min":
        case "value_bigger_than_max":
            return range(input, limits, value);
        case "invalid_input_type":
            return kind === "INT" ? t("'{input}' must be a whole number, but is {value}.", { input, value })
                : t("'{input}' must be a number, but is {value}.", { input, value });
        case "value_not_in_list":
            return choice(input, optionsOf(config), value);
        case "custom_validation_failed":
            return error.details.replace(/^[\w.]+ - /, "");
        default:
            return [error.message, error.details].filter(part => part).join(": ");
    }
}

/**
 * @param {string} input
 * @param {Record<string, any>} limits
 * @param {any} value
 */
function range(input, { min, max }, value) {
    if (min === undefined) return t("'{input}' must be at most {max}, but is {value}.", { input, max, value });
    if (max === undefined) return t("'{input}' must be at least {min}, but is {value}.", { input, min, value });
    return t("'{input}' must lie between {min} and {max}, but is {value}.", { input, min, max, value });
}

/**
 * @param {[any, Record<string, any>] | null | undefined} config
 * @returns {string[] | null} null where the host did not list them
 */
function optionsOf(config) {
    if (!config) return null;
    return Array.isArray(config[0]) ? config[0] : config[1]?.options ?? null;
}

/**
 * @param {string} input
 * @param {string[] | null} options
 * @param {any} value
 */
function choice(input, options, value) {
    const file = /\.\w+$/.test(String(value));
    if (options && !options.length) {
        return t("There is nothing to choose for '{input}'. Put the file into its folder, then press R to look again.",
            { input });
    }
    if (file) {
        return t("'{input}': there is no file '{value}' any more. Choose another one, or put it back and press R.",
            { input, value });
    }
    return options
        ? t("'{input}' is '{value}', but must be one of: {options}.", { input, value, options: options.join(", ") })
        : t("'{input}' is '{value}', which is not in its list. Choose another one.", { input, value });
}
