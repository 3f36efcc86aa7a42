"""The tab about weights in an open page."""

OPEN = "async () => (await import('/extensions/camouflage/weights.js')).openWeights()"
ROWS = """rows => Object.fromEntries(rows.map(row => [row.dataset.file,
    {state: row.dataset.state, text: row.innerText, shown: row.checkVisibility()}]))"""
ALL_ROWS = ".camouflage-weights li[data-file]"
TOGGLE = "() => app.extensionManager.command.execute('Workspace.ToggleSidebarTab.camouflage.weights')"
