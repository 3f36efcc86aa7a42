/**
 * What our scripts use of ComfyUI's frontend, and nothing else: documented hooks that every supported version has.
 * The frontend's own types change from version to version; what all of them share stands here.
 */

interface HostWidget {
    name: string;
    label?: string;
    type: string;
    value: any;
    hidden?: boolean;
    options: Record<string, any>;
    element?: HTMLElement;
    inputEl?: HTMLTextAreaElement;
    callback?: (value: any) => void;
}

interface HostSlot {
    name: string;
    localized_name?: string;
    type: string;
    link: number | null;
}

interface HostLink {
    id: number;
    origin_id: number | string;
    origin_slot: number;
    target_id: number | string;
    target_slot: number;
}

interface HostGraph {
    id?: string;
    nodes: HostNode[];
    getNodeById(id: number | string): HostNode | null;
    getLink?(id: number): HostLink | undefined;
    links: Map<number, HostLink> | Record<number, HostLink>;
    setDirtyCanvas(foreground: boolean, background?: boolean): void;
}

interface HostNode {
    id: number | string;
    type: string;
    comfyClass?: string;
    title: string;
    mode: number;
    graph: HostGraph | null;
    subgraph?: HostGraph;
    pos: [number, number];
    size: [number, number];
    inputs: HostSlot[];
    outputs: { name: string; localized_name?: string; type: string; links: number[] | null }[];
    widgets?: HostWidget[];
    imgs?: HTMLImageElement[];
    properties: Record<string, any>;
    has_errors?: boolean;
    computeSize(): [number, number];
    setSize(size: [number, number]): void;
    getInputNode(slot: number): HostNode | null;
    addDOMWidget(name: string, type: string, element: HTMLElement, options?: Record<string, any>): HostWidget;
    onExecuted?: (output: Record<string, any>) => void;
    onConfigure?: (saved: Record<string, any>) => void;
    onConnectionsChange?: (...args: any[]) => void;
    onRemoved?: () => void;
}

/** A node as the server describes it, before the frontend registers it. */
interface HostDefinition {
    display_name: string;
    description: string;
    category: string;
    input: { required?: Record<string, [any, any?]>; optional?: Record<string, [any, any?]> };
    output_tooltips?: string[];
}

interface HostExtension {
    name: string;
    addCustomNodeDefs?(definitions: Record<string, HostDefinition>, app: HostApp): void | Promise<void>;
    init?(app: HostApp): void | Promise<void>;
    setup?(app: HostApp): void | Promise<void>;
    nodeCreated?(node: HostNode, app: HostApp): void;
    loadedGraphNode?(node: HostNode, app: HostApp): void;
    afterConfigureGraph?(missing: unknown[], app: HostApp): void;
}

interface HostApp {
    graph: HostGraph;
    rootGraph?: HostGraph;
    canvas: {
        setDirty(foreground: boolean, background?: boolean): void;
        graph?: HostGraph;
        emitBeforeChange?(): void;
        emitAfterChange?(): void;
    };
    nodeOutputs: Record<string, Record<string, any>>;
    lastNodeErrors: Record<string, any> | null;
    extensionManager: {
        setting: { get(id: string): any; set(id: string, value: any): Promise<void> };
        toast: { add(message: Record<string, any>): void };
        registerSidebarTab(tab: Record<string, any>): void;
        command: { execute(id: string): Promise<void> };
    };
    registerExtension(extension: HostExtension): void;
}

interface HostApi {
    clientId?: string;
    apiURL(route: string): string;
    fetchApi(route: string, options?: RequestInit): Promise<Response>;
    addEventListener(type: string, callback: (event: CustomEvent<any>) => void, options?: any): void;
    removeEventListener(type: string, callback: (event: CustomEvent<any>) => void, options?: any): void;
}

declare module "*/scripts/app.js" {
    export const app: HostApp;
}

declare module "*/scripts/api.js" {
    export const api: HostApi;
}
