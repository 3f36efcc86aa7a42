/** The panel about weights as a tab of the sidebar, and new files in the lists of the loaders. */

import { api, app } from "./host.js";
import { t } from "./texts.js";
import { WeightsPanel } from "./weights_panel.js";
import { PROGRESS } from "./weights_server.js";

/** @typedef {import("./weights_server.js").Progress} Progress */

const TAB = "camouflage.weights";

/** @type {WeightsPanel | null} */
let open = null;

/** Opens the tab, if it is not open. */
export async function openWeights() {
    if (!open?.element.isConnected) await app.extensionManager.command.execute(`Workspace.ToggleSidebarTab.${TAB}`);
}

function close() {
    open?.close();
    open = null;
}

app.registerExtension({
    name: "camouflage.weights",
    setup() {
        app.extensionManager.registerSidebarTab({
            id: TAB, icon: "pi pi-download", title: t("Weights"), tooltip: t("CAMOUFLaGE weights"), type: "custom",
            render: (/** @type {HTMLElement} */ place) => {
                close();
                open = new WeightsPanel();
                place.replaceChildren(open.element);
            },
            destroy: close,
        });
        api.addEventListener(PROGRESS, (/** @type {CustomEvent<Progress>} */ { detail: { work, last } }) => {
            if (!work && last?.kind === "get" && (last.present || last.unverified)) {
                app.extensionManager.command.execute("Comfy.RefreshNodeDefinitions");
            }
        });
    },
});
