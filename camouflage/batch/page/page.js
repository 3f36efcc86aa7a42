// The review page: the list comes once, pictures as they are shown, and every decision goes to the server at once.
const token = new URLSearchParams(location.search).get('token') ?? ''
const element = id => document.getElementById(id)
const address = (what, entry) => `${what}?${new URLSearchParams({ token, entry })}`
const WITHHELD = ['blocked', 'rejected']

let entries = []
let shown = []
let place = 0

async function ask(path, content) {
    const answer = await fetch(`${path}?${new URLSearchParams({ token })}`, content && {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(content) })
    const found = await answer.json()
    if (!answer.ok) throw new Error(found.error)
    return found
}

const looked = entry => Boolean(entry.word) || entry.recognisable !== null
const KINDS = {
    all: () => true,
    open: entry => !looked(entry),
    sample: entry => entry.sample,
    withheld: entry => WITHHELD.includes(entry.state),
}

function choose(kind) {
    const before = shown[place]
    shown = entries.filter(KINDS[kind])
    place = Math.max(0, shown.indexOf(before))
    show()
}

function row(cells, tag = 'td') {
    const line = document.createElement('tr')
    line.append(...cells.map(text => Object.assign(document.createElement(tag), { textContent: text })))
    return line
}

function show() {
    const entry = shown[place]
    const done = entries.filter(looked).length
    element('progress').textContent = shown.length
        ? `${place + 1} of ${shown.length} shown; ${done} of ${entries.length} looked at` : 'Nothing to show here.'
    document.querySelector('main').hidden = !entry
    if (!entry) return
    const saved = Boolean(entry.result)
    element('key').textContent = entry.key
    element('state').textContent = `${entry.state}${entry.reason ? `: ${entry.reason}` : ''}`
    element('why').replaceChildren(...entry.why.map(text => Object.assign(document.createElement('li'),
        { textContent: text })))
    if (entry.sample && !entry.why.length) element('why').append(Object.assign(document.createElement('li'),
        { textContent: 'drawn at random' }))
    element('persons').replaceChildren(...(entry.persons.length ? [row(['Person', 'Verdict'], 'th')] : []),
        ...entry.persons.map(one => row([one.number, one.verdict])))
    element('original').src = address('original', entry.number)
    element('original').alt = `Original of ${entry.key}`
    element('result').hidden = !saved
    element('result').alt = saved ? `Result of ${entry.key}` : ''
    if (saved) element('result').src = address('result', entry.number)
    else element('result').removeAttribute('src')
    element('no-result').textContent = saved ? '' : 'Nothing was saved, so there is nothing to show.'
    for (const button of document.querySelectorAll('[data-word]'))
        button.setAttribute('aria-pressed', String(Boolean(button.dataset.word) && button.dataset.word === entry.word))
    for (const button of document.querySelectorAll('[data-seen]')) {
        button.setAttribute('aria-pressed', String(button.dataset.seen === String(entry.recognisable)))
        button.disabled = !saved
    }
}

async function decide(change) {
    const entry = shown[place]
    if (!entry) return
    const wanted = { word: entry.word, recognisable: entry.recognisable, ...change }
    try {
        const { risk } = await ask('decide', { entry: entry.number, ...wanted })
        Object.assign(entry, wanted)
        element('said').textContent = ''
        element('risk').textContent = `Residual risk: ${risk}`
        show()
    } catch (error) {
        element('said').textContent = `It was not noted. ${error.message}`
    }
}

function step(by) {
    place = Math.min(shown.length - 1, Math.max(0, place + by))
    show()
}

for (const button of document.querySelectorAll('[data-word]'))
    button.addEventListener('click', () => decide({ word: button.dataset.word }))
for (const button of document.querySelectorAll('[data-seen]'))
    button.addEventListener('click', () => decide({ recognisable: button.dataset.seen === 'true' }))
element('back').addEventListener('click', () => step(-1))
element('next').addEventListener('click', () => step(1))
element('filter').addEventListener('change', event => choose(event.target.value))
const KEYS = { a: { word: 'accept' }, r: { word: 'redact' }, x: { word: 'reject' }, u: { word: '' },
    y: { recognisable: true }, n: { recognisable: false } }
document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLSelectElement) return
    if (event.key === 'ArrowRight' || event.key === 'j') step(1)
    else if (event.key === 'ArrowLeft' || event.key === 'k') step(-1)
    else if (KEYS[event.key] && !(KEYS[event.key].recognisable !== undefined && !shown[place]?.result))
        decide(KEYS[event.key])
    else return
    event.preventDefault()
})

try {
    const found = await ask('list')
    entries = found.entries
    element('risk').textContent = `Residual risk: ${found.risk}`
    choose('all')
} catch (error) {
    element('said').textContent = error.message
    element('progress').textContent = 'The list cannot be read.'
}
