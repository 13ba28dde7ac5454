/**
 * Pictures of the console, for looking at it: npx tsx --conditions=holdfast-source test/browser/screenshots.ts <dir>
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { buildWeb, chromiumPath, launch, serveConsole } from './chromium.ts'
import { breakThePanel, type FakeHoldfast } from './fake-holdfast.ts'

const out = process.argv[2] ?? 'screenshots'
mkdirSync(out, { recursive: true })

function tellAFewThings(fake: FakeHoldfast): void {
  fake.say('vpn-bot started in 1.8 s with the embedded store', 'good')
  for (const [index, name] of ['Anna', 'Boris', 'Clara', 'Dmitri'].entries()) {
    fake.say(`${name} paid 299 RUB for 30 days by card`, 'good', `buy-${String(1040 + index)}`)
    fake.say(`key delivered to ${name}`, 'neutral', `buy-${String(1040 + index)}`)
  }
}

const path = chromiumPath()
if (path !== undefined) {
  const web = await buildWeb()
  const browser = await launch(path)
  const shots = [
    ['desktop-healthy-light', 1440, 900, 'light', false],
    ['desktop-degraded-light', 1440, 900, 'light', true],
    ['desktop-degraded-dark', 1440, 900, 'dark', true],
    ['phone-degraded-light', 390, 844, 'light', true],
    ['phone-healthy-dark', 390, 844, 'dark', false],
  ] as const
  for (const [name, width, height, colorScheme, broken] of shots) {
    const { fake, served, url } = await serveConsole(web.dir, { withDemo: true })
    tellAFewThings(fake)
    const page = await browser.newPage({ viewport: { width, height }, colorScheme, deviceScaleFactor: 1 })
    if (broken) {
      breakThePanel(fake)
      await fake.command('flag.set', { target: 'payments', args: { on: false, for: '30' }, actor: { id: 'alice', via: 'cli' }, reason: 'panel is down, no new sales' })
    }
    await page.goto(url)
    await page.getByText('live,').waitFor()
    await page.screenshot({ path: join(out, `${name}.png`), fullPage: width < 600 })
    if (name === 'desktop-degraded-light') {
      await page.getByRole('switch', { name: 'vpnProvisioning' }).click()
      await page.screenshot({ path: join(out, 'dialog.png') })
    }
    await page.close()
    await served.close({ within: '1s' })
  }
  await browser.close()
  web.remove()
}
