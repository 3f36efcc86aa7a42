/** The 40 attributes of CelebA in words and groups. */

import { t } from "./texts.js";

/** @type {{title: string, attributes: Record<string, string>}[]} */
export const GROUPS = [
    { title: t("Expression"), attributes: { Smiling: t("Smiling"), Mouth_Slightly_Open: t("Mouth slightly open") } },
    { title: t("Demographics"), attributes: {
        Male: t("Male"), Young: t("Young"), Pale_Skin: t("Pale skin"), Black_Hair: t("Black hair"),
        Blond_Hair: t("Blond hair"), Brown_Hair: t("Brown hair"), Gray_Hair: t("Gray hair"),
    } },
    { title: t("Beard and hairline"), attributes: {
        "5_o_Clock_Shadow": t("5 o'clock shadow"), Goatee: t("Goatee"), Mustache: t("Mustache"),
        No_Beard: t("No beard"), Sideburns: t("Sideburns"), Bald: t("Bald"), Receding_Hairline: t("Receding hairline"),
    } },
    { title: t("Hairstyle"), attributes: {
        Bangs: t("Bangs"), Straight_Hair: t("Straight hair"), Wavy_Hair: t("Wavy hair"),
    } },
    { title: t("Face"), attributes: {
        Arched_Eyebrows: t("Arched eyebrows"), Bushy_Eyebrows: t("Bushy eyebrows"),
        Bags_Under_Eyes: t("Bags under eyes"), Narrow_Eyes: t("Narrow eyes"), Big_Lips: t("Big lips"),
        Big_Nose: t("Big nose"), Pointy_Nose: t("Pointy nose"), High_Cheekbones: t("High cheekbones"),
        Oval_Face: t("Oval face"), Chubby: t("Chubby"), Double_Chin: t("Double chin"), Attractive: t("Attractive"),
        Blurry: t("Blurry"),
    } },
    { title: t("Make-up and accessories"), attributes: {
        Heavy_Makeup: t("Heavy make-up"), Rosy_Cheeks: t("Rosy cheeks"), Wearing_Lipstick: t("Wearing lipstick"),
        Wearing_Earrings: t("Wearing earrings"), Wearing_Necklace: t("Wearing necklace"),
        Wearing_Necktie: t("Wearing necktie"), Wearing_Hat: t("Wearing hat"), Eyeglasses: t("Eyeglasses"),
    } },
];

/** @type {Map<string, string>} words by CelebA's name */
export const ATTRIBUTES = new Map(GROUPS.flatMap(({ attributes }) => Object.entries(attributes)));

/** @param {string} attribute */
export const wordsOf = attribute => ATTRIBUTES.get(attribute) ?? attribute;

/** @param {number} value 0 to 1, as somebody set it */
export const rounded = value => String(Math.round(value * 100) / 100);

/** @param {number} probability as it was read */
export const asRead = probability => probability.toFixed(2);

/** @param {import("./attribute_edits.js").Scope} scope @param {boolean} several whether there are several pictures */
export function whoIs({ picture, person }, several) {
    if (person === null) return picture === null ? t("Everybody") : t("Everybody in picture {picture}", { picture });
    if (!several) return t("Person {person}", { person });
    return picture === null ? t("Person {person} of every picture", { person })
        : t("Picture {picture}, person {person}", { picture, person });
}

/**
 * Changes in a few words.
 *
 * @param {import("./attribute_text.js").Changes} changes
 */
export function inWords(changes) {
    return [...changes].map(([name, change]) => {
        const attribute = wordsOf(name);
        if (change === "keep") return t("{attribute} kept", { attribute });
        if (change === "forget") return t("{attribute} forgotten", { attribute });
        return t("{attribute} set to {value}", { attribute, value: rounded(change) });
    }).join(", ");
}

/**
 * What becomes of an attribute, for who does not see it.
 *
 * @param {string} attribute
 * @param {import("./attribute_text.js").Change} change
 * @param {number | null | undefined} probability as it was read; undefined where it differs from person to person
 */
export function told(attribute, change, probability) {
    if (change === "keep" && typeof probability === "number") {
        return t("{attribute}: kept, read as {value}", { attribute: wordsOf(attribute), value: asRead(probability) });
    }
    return inWords(new Map([[attribute, change]]));
}
