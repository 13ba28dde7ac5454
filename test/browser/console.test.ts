/**
 * The console in Chromium, served from a fake service: what an operator sees, does, and must never be shown.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { OperateOptions } from '../../src/operate/index.ts'
import { buildWeb, chromiumPath, launch, serveConsole } from './chromium.ts'
import { breakThePanel, type FakeHoldfast } from './fake-holdfast.ts'

const path = chromiumPath()
const KIBIBYTE = 1_024

/** Steps wait for what they need to see; this is how long at most. */
const SEEN_WITHIN_MS = 8_000

/** Texts of parts of a row, or of a card's head, that lie over each other. */
const OVERLAPS = `[...document.querySelectorAll('.row-main, .card-head, .top')].flatMap(row => {
  const boxes = [...row.querySelectorAll('.row-name, .state, .row-figures > span, .row-actions button, .switch, .switch-word, h1, h2, .card-note, .age')].filter(element => element.textContent !== '' || element.matches('.switch')).map(element => {
    const range = document.createRange()
    range.selectNodeContents(element)
    return { text: element.textContent, box: element.matches('button') ? element.getBoundingClientRect() : range.getBoundingClientRect(), element }
  })
  return boxes.flatMap((a, index) => boxes.slice(index + 1).filter(b => !a.element.contains(b.element) && a.box.left < b.box.right - 1 && b.box.left < a.box.right - 1 && a.box.top < b.box.bottom - 1 && b.box.top < a.box.bottom - 1).map(b => a.text + ' / ' + b.text))
})`

describe.skipIf(path === undefined)('the console', () => {
  let web: Awaited<ReturnType<typeof buildWeb>>
  let browser: Browser
  const closing: (() => Promise<unknown>)[] = []

  beforeAll(async () => {
    web = await buildWeb()
    browser = await launch(path ?? '')
  })
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
  })
  afterAll(async () => {
    await browser.close()
    web.remove()
  })

  interface Opened {
    readonly page: Page
    readonly fake: FakeHoldfast
    readonly url: string
    /** Everything that the browser complained about, policy violations included. */
    readonly complaints: string[]
    readonly stop: () => Promise<unknown>
  }

  async function open(options: OperateOptions & { readonly withDemo?: boolean; readonly prepare?: (fake: FakeHoldfast) => void; readonly context?: BrowserContextOptions } = {}): Promise<Opened> {
    const { prepare, context: contextOptions, ...rest } = options
    const { fake, served, url } = await serveConsole(web.dir, rest)
    prepare?.(fake)
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...contextOptions })
    const page = await context.newPage()
    page.setDefaultTimeout(SEEN_WITHIN_MS)
    const complaints: string[] = []
    page.on('console', message => { if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text()) })
    page.on('pageerror', error => { complaints.push(String(error)) })
    closing.push(() => context.close(), () => served.close({ within: '1s' }))
    await page.goto(url)
    return { page, fake, url, complaints, stop: () => served.close({ within: '1s' }) }
  }
  const part = (page: Page, id: string): ReturnType<Page['locator']> => page.locator(`[data-part="${id}"]`)

  it('says the verdict in a sentence, how old it is, and who answers, without a single complaint of the browser', async () => {
    const { page, complaints } = await open({ withDemo: true })
    await page.getByText('Everything works. 3 dependencies answer').first().waitFor()
    await page.getByText(/^live,/).waitFor()
    await part(page, 'dependencies').getByText('vpn-panel', { exact: true }).waitFor()
    await part(page, 'workers').getByText('crypto-reconciler', { exact: true }).waitFor()
    await part(page, 'work').getByText('Nothing waits for a person.').waitFor()
    expect(await page.title()).toBe('vpn-bot')
    expect(complaints).toEqual([])
  })

  it('shows a change within a second, without a reload', async () => {
    const { page, fake } = await open()
    await page.getByText('Everything works.').first().waitFor()
    breakThePanel(fake)
    await page.getByText('VPN provisioning is failing').first().waitFor({ timeout: 2_000 })
    await part(page, 'dependencies').getByText(/^left alone for 4\d s$/).waitFor()
    await part(page, 'events').getByText('vpn-panel: 5 failures in a row').waitFor()
    await part(page, 'work').getByText('sub-1042').waitFor()
    await part(page, 'alerts').getByText('vpn-panel has been failing for 4 min').waitFor()
    expect(await page.title()).toBe('DEGRADED: vpn-bot')
  })

  it('switches off only with a reason, and shows what off means, who did it and when it ends', async () => {
    const { page, fake } = await open()
    const payments = page.getByRole('switch', { name: 'payments' })
    expect(await payments.getAttribute('aria-checked')).toBe('true')
    await payments.click()
    const dialog = page.getByRole('dialog', { name: 'Switch payments off?' })
    await dialog.getByRole('button', { name: 'Switch off' }).click()
    await dialog.getByLabel('Why?').fill('   ')
    await dialog.getByRole('button', { name: 'Switch off' }).click()
    expect(await dialog.isVisible()).toBe(true)
    expect(fake.commandsSeen).toEqual([])
    await dialog.getByLabel('Why?').fill('the panel is down')
    await dialog.getByLabel('For how long?').selectOption('30m')
    await dialog.getByRole('button', { name: 'Switch off' }).click()
    await dialog.waitFor({ state: 'detached' })
    expect(fake.commandsSeen).toEqual([{ name: 'flag.set', target: 'payments', args: { on: false, for: '30m' }, reason: 'the panel is down', actor: { id: 'local', via: 'console', roles: ['admin'] } }])
    const card = part(page, 'switches')
    await card.getByText('Customers are told that payments are paused').waitFor()
    await card.getByText('console:local: the panel is down').waitFor()
    await card.getByText(/\d+ min.* left/).waitFor()
    expect(await payments.getAttribute('aria-checked')).toBe('false')
    await card.getByRole('button', { name: 'Undo: override of payments' }).click()
    await page.getByLabel('Why?').fill('back')
    await page.keyboard.press('Enter')
    await page.locator('[role=switch][aria-label=payments][aria-checked=true]').waitFor()
  })

  it('carries out every other action through the same dialog', async () => {
    const { page, fake } = await open({ prepare: breakThePanel })
    const act = async (button: string, confirm: string): Promise<void> => {
      await page.getByRole('button', { name: button }).click()
      await page.getByLabel('Why?').fill('because')
      await page.getByRole('dialog').getByRole('button', { name: confirm }).click()
      await page.getByRole('dialog').waitFor({ state: 'detached' })
    }
    await act('Pause: activation', 'Pause')
    await act('Resume: activation', 'Resume')
    await act('Run: expiry', 'Run now')
    await act('Hold off: telegram', 'Hold off')
    await act('Release: telegram', 'Release')
    await act('Let through: vpn-panel', 'Let through')
    await act('Retry: provision sub-1042', 'Retry')
    await act('Discard: customer-messages msg-88', 'Discard for good')
    expect(fake.commandsSeen.map(({ name, target, args }) => [name, target, args])).toEqual([
      ['worker.pause', 'activation', {}],
      ['worker.resume', 'activation', {}],
      ['worker.run', 'expiry', {}],
      ['breaker.force', 'telegram', { state: 'open', for: '15m' }],
      ['breaker.release', 'telegram', {}],
      ['breaker.force', 'vpn-panel', { state: 'closed', for: '15m' }],
      ['work.retry', 'sub-1042', { kind: 'saga', name: 'provision' }],
      ['work.discard', 'msg-88', { kind: 'outbox', name: 'customer-messages' }],
    ])
    await part(page, 'work').getByText('Nothing waits for a person.').waitFor()
  })

  it('says in the dialog why a command was refused, and keeps what was typed', async () => {
    const { page, fake } = await open()
    fake.command = () => Promise.reject(new Error('not for you'))
    await page.getByRole('button', { name: 'Pause: activation' }).click()
    await page.getByLabel('Why?').fill('because')
    await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click()
    await page.getByRole('alert').getByText('Something failed on our side').waitFor()
    expect(await page.getByLabel('Why?').inputValue()).toBe('because')
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
  })

  it('breaks and repairs a simulator with one press, and shows what becomes of it', async () => {
    const { page, fake } = await open({ withDemo: true })
    const fault = page.getByRole('button', { name: /VPN panel down/ })
    await fault.click()
    await page.getByText('VPN provisioning is failing').first().waitFor()
    await page.locator('button[aria-pressed=true]').getByText('VPN panel down').waitFor()
    expect(fake.model.verdict.state).toBe('degraded')
    await fault.click()
    await page.locator('button[aria-pressed=false]').getByText('VPN panel down').waitFor()
  })

  it('has no fault buttons where there are no simulators', async () => {
    const { page } = await open()
    await page.getByText('Everything works.').first().waitFor()
    expect(await part(page, 'demo').count()).toBe(0)
  })

  it('never shows old facts as fresh: when the status hangs, and when the service is gone', async () => {
    const first = await open()
    await first.page.getByText(/^live,/).waitFor()
    first.fake.hung = true
    await first.page.getByText(/^STALE \d+ s$/).waitFor()

    const second = await open()
    await second.page.getByText(/^live,/).waitFor()
    await second.stop()
    await second.page.getByText(/^STALE/).waitFor()
    expect(await second.page.locator('main.is-stale').count()).toBe(1)
  })

  it('goes on by itself when the service is back, another life of it included, and misses no event', async () => {
    const { page, stop, url } = await open()
    await page.getByText(/^live,/).waitFor()
    await stop()
    await page.getByText(/^STALE/).waitFor()
    const { fake, served } = await serveConsole(web.dir, { port: Number(new URL(url).port) })
    closing.push(() => served.close({ within: '1s' }))
    fake.say('back again', 'good')
    await page.getByText(/^live,/).waitFor()
    await part(page, 'events').getByText('back again').waitFor()
  })

  it('tells the story of one piece of work', async () => {
    const { page, fake } = await open()
    fake.say('paid', 'good', 'buy-7')
    fake.say('other', 'good', 'buy-8')
    fake.say('delivered', 'good', 'buy-7')
    await page.getByRole('button', { name: 'The story of buy-7' }).first().click()
    const story = page.getByRole('dialog', { name: 'The story of buy-7' })
    expect(await story.locator('.event-text').allTextContents()).toEqual(['paid', 'delivered'])
  })

  it('opens a runbook from its chip, wherever it is, by keyboard too, and says when there is none', async () => {
    const { page, complaints } = await open({ prepare: breakThePanel })
    for (const card of ['alerts', 'dependencies', 'work']) {
      await part(page, card).getByRole('button', { name: 'runbook vpn-panel-down' }).first().click()
      const dialog = page.getByRole('dialog', { name: 'The VPN panel does not answer' })
      await dialog.getByText('safe to retry').waitFor()
      expect(await dialog.locator('li').allTextContents()).toEqual(['Look at the panel itself', 'Hold it off while it is repaired', 'Release it'])
      await dialog.getByText('holdfast breaker force-open vpn-panel').waitFor()
      await page.keyboard.press('Escape')
      await dialog.waitFor({ state: 'detached' })
    }
    const chip = part(page, 'alerts').getByRole('button', { name: 'runbook vpn-panel-down' })
    await chip.focus()
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'The VPN panel does not answer' }).waitFor()
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Close')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    expect(await page.evaluate('document.activeElement.className')).toBe('runbook')
    expect(complaints).toEqual([])
    await page.getByRole('switch', { name: 'payments' }).click()
    await page.getByLabel('Why?').fill('because')
    await page.keyboard.press('Enter')
    await part(page, 'switches').getByRole('button', { name: 'runbook payments-off' }).click()
    await page.getByRole('dialog', { name: 'Runbook payments-off' }).getByText('No runbook is given under this name').waitFor()
  })

  it('shows what a dependency has learned, and what a call costs at worst, when its name is pressed; of the usual its row says nothing', async () => {
    const { page, fake, complaints } = await open()
    const card = part(page, 'dependencies')
    await card.getByText('crypto-pay', { exact: true }).waitFor()
    expect(await card.locator('.row-detail').count()).toBe(0)
    const first = ['de-1', 'nl-2'].map(partition => ({ partition, state: 'open' as const, retryAfterMs: 40_000 }))
    const panel = fake.model.dependencies.find(({ name }) => name === 'vpn-panel')
    Object.assign(panel ?? {}, { ramp: 0.1, hedges: 4, retries: 7, retriesSuppressed: 3, timeouts: 2, limit: 8, shadow: { state: 'open', since: 0, wouldHaveRefused: 5 }, partitions: { size: 40, notClosed: 6, first } })
    fake.touch()
    await card.getByText('coming back: 10 % of the calls pass · its breaker only watches and would be open · 6 of 40 partitions left alone').waitFor()
    await card.getByRole('button', { name: 'vpn-panel', exact: true }).click()
    const dialog = page.getByRole('dialog', { name: 'vpn-panel' })
    for (const text of ['96, 2 timeouts', '0 of 8 at once', '7, 4 hedged, 3 held back by the budget', '34 ms (half), 120 ms (95 %)', 'it would be open; 5 calls would have been refused', '40, 6 not closed: de-1 open for 40 s, nl-2 open for 40 s, ...', 'A caller waits at most 10 s.']) await dialog.getByText(text, { exact: true }).waitFor()
    Object.assign(panel ?? {}, { hedges: 5 })
    fake.touch()
    await dialog.getByText('7, 5 hedged, 3 held back by the budget').waitFor()
    await page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'detached' })
    expect(await page.evaluate('document.activeElement.textContent')).toBe('vpn-panel')
    expect(complaints).toEqual([])
  })

  it('arms faults on purpose for an hour at most, says who did and how long, and has no such card where none are declared', async () => {
    const none = await open()
    await none.page.getByText('Everything works.').first().waitFor()
    expect(await part(none.page, 'faults-on-purpose').count()).toBe(0)

    const { page, fake } = await open({ prepare: ({ model }) => { model.faults = [{ name: 'panel-chaos', state: 'off', active: false, production: true, injected: 12 }] } })
    const card = part(page, 'faults-on-purpose')
    await card.getByText('12 injected').waitFor()
    await card.getByRole('button', { name: 'Arm: panel-chaos' }).click()
    expect(await page.getByLabel('For how long?').locator('option').allTextContents()).toEqual(['15 minutes', '30 minutes', '1 hour'])
    await page.getByLabel('Why?').fill('drill')
    await page.getByRole('dialog').getByRole('button', { name: 'Arm' }).click()
    await card.getByText('breaks calls').waitFor()
    await card.getByText(/^console:local: drill, \d+ min.* left$/).waitFor()
    await card.getByRole('button', { name: 'Disarm: panel-chaos' }).click()
    await page.getByLabel('Why?').fill('done')
    await page.keyboard.press('Enter')
    await card.getByText('off', { exact: true }).waitFor()
    expect(fake.commandsSeen.map(({ name, target, args }) => [name, target, args])).toEqual([['faults.arm', 'panel-chaos', { for: '15m' }], ['faults.disarm', 'panel-chaos', {}]])
  })

  it('counts a line that repeats instead of repeating it', async () => {
    const { page, fake } = await open()
    const entry = fake.say('activation skipped', 'neutral')
    await part(page, 'events').getByText('activation skipped').waitFor()
    fake.tell({ ...entry, count: 7 })
    await part(page, 'events').getByText('×7').waitFor()
    expect(await part(page, 'events').getByText('activation skipped').count()).toBe(1)
  })

  it('shows hostile text as text', async () => {
    const attack = '<img src=x onerror="document.title=\'owned\'"><script>document.title=\'owned\'</script>'
    const { page, fake, complaints } = await open({
      prepare: ({ model }) => {
        const [flag] = model.flags
        if (flag !== undefined) Object.assign(flag, { name: attack, on: false, because: attack, whenOff: attack, runbook: attack })
        model.verdict = { ...model.verdict, sentence: attack }
        model.work = [{ kind: 'saga', name: attack, id: attack, state: attack, since: 0, reason: attack, runbook: attack, actions: ['retry'] }]
        model.alerts = [{ key: attack, alert: attack, severity: 'page', summary: attack, since: 0, runbook: attack }]
      },
    })
    fake.say(attack, 'bad', attack)
    await part(page, 'switches').getByText(attack).first().waitFor()
    await part(page, 'events').getByText(attack).first().waitFor()
    await page.getByRole('switch').first().click()
    await page.getByRole('dialog').waitFor()
    expect(await page.locator('img').count()).toBe(0)
    expect(await page.locator('body script').count()).toBe(0)
    expect(await page.title()).toBe('vpn-bot')
    expect(complaints).toEqual([])
  })

  it('has a policy that would stop an inline script: the control of the line above', async () => {
    const { page, complaints } = await open()
    await page.getByText('Everything works.').first().waitFor()
    await page.evaluate('{ const script = document.createElement("script"); script.textContent = "document.title = \'owned\'"; document.body.append(script) }')
    expect(await page.title()).toBe('vpn-bot')
    expect(complaints.join()).toContain('Content Security Policy')
  })

  for (const width of [390, 320, 768, 1000, 1180, 1440]) {
    it(`fits ${String(width)} px without scrolling sideways, dialog included`, async () => {
      const { page } = await open({ withDemo: true, prepare: breakThePanel, context: { viewport: { width, height: 844 } } })
      await page.getByText('VPN provisioning is failing').first().waitFor()
      const overflow = (): Promise<number> => page.evaluate<number>('document.documentElement.scrollWidth - document.documentElement.clientWidth')
      expect(await overflow()).toBe(0)
      const cut = await page.evaluate<number>("[...document.querySelectorAll('.card button, .card .row-name')].filter(element => element.getBoundingClientRect().right > document.documentElement.clientWidth).length")
      expect(cut).toBe(0)
      expect(await page.evaluate<readonly string[]>(OVERLAPS)).toEqual([])
      await page.getByRole('switch', { name: 'payments' }).click()
      await page.getByRole('dialog').waitFor()
      expect(await overflow()).toBe(0)
    })
  }

  it('does not jump while seconds tick', async () => {
    const { page } = await open({ withDemo: true, prepare: breakThePanel })
    await page.getByText('VPN provisioning is failing').first().waitFor()
    await page.getByText(/^left alone for 4\d s$/).waitFor()
    const tops = (): Promise<string> => page.evaluate<string>("[...document.querySelectorAll('.card, .row')].map(element => Math.round(element.getBoundingClientRect().top)).join()")
    const before = await tops()
    const state = await page.getByText(/^left alone for/).textContent()
    await expect.poll(() => page.getByText(/^left alone for/).textContent()).not.toBe(state)
    expect(await tops()).toBe(before)
  })

  it('can be used by keyboard and is named for screen readers', async () => {
    const { page } = await open({ withDemo: true, prepare: breakThePanel })
    await page.getByText('VPN provisioning is failing').first().waitFor()
    const nameless = await page.evaluate<number>("[...document.querySelectorAll('button, input, select, [tabindex]')].filter(element => (element.getAttribute('aria-label') ?? element.textContent).trim() === '').length")
    expect(nameless).toBe(0)
    await page.getByRole('switch', { name: 'payments' }).focus()
    await page.keyboard.press('Space')
    await page.getByRole('dialog').waitFor()
    expect(await page.evaluate('document.activeElement.id')).toBe('ask-reason')
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    expect(await page.evaluate('document.activeElement.getAttribute("aria-label")')).toBe('payments')
    expect(await page.locator('.verdict [aria-live=polite]').textContent()).toContain('Degraded. VPN provisioning is failing')
  })

  it('asks for the token where there is one, and lives by the cookie then, stream included', async () => {
    const token = 'correct-horse-battery-staple-0123456789'
    const { page, fake, complaints } = await open({ token })
    await page.getByLabel('Operator token').fill('wrong')
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByText('That is not the token.').waitFor()
    await page.getByLabel('Operator token').fill(token)
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByText(/^live,/).waitFor()
    await page.getByRole('button', { name: 'Run: expiry' }).click()
    await page.getByLabel('Why?').fill('because')
    await page.keyboard.press('Enter')
    await page.getByText('expiry runs now').first().waitFor()
    expect(fake.commandsSeen).toHaveLength(1)
    expect(complaints.filter(text => !text.includes('401'))).toEqual([])
  })

  it('is at most 60 kB of script, compressed', () => {
    const assets = join(web.dir, 'assets')
    const bytes = readdirSync(assets).filter(name => name.endsWith('.js')).reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name))).length, 0)
    expect(bytes).toBeGreaterThan(5 * KIBIBYTE)
    expect(bytes).toBeLessThan(60 * KIBIBYTE)
  })
})
