/**
 * A Chromium for tests, found or installed by scripts/install-chromium.mjs, and a console served to it from a fake service.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { chromium, type Browser } from 'playwright-core'
import { build } from 'vite'
import { realEnv } from '../../src/core/index.ts'
import { combine } from '../../src/http/index.ts'
import { serve, type Served } from '../../src/http/node.ts'
import { operate, type OperateOptions } from '../../src/operate/index.ts'
import { fakeDemo, fakeHoldfast, type FakeHoldfast } from './fake-holdfast.ts'

const root = resolve(import.meta.dirname, '../..')

/** No sandbox (tests run as root in containers), and nothing that phones home. */
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage']

/** Path of a browser, undefined when there is none to be had here (the script said why). Throws under CI=true. */
export function chromiumPath(): string | undefined {
  const result = spawnSync(process.execPath, [join(root, 'scripts/install-chromium.mjs')], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  if (result.status !== 0) throw new Error('there is no Chromium, and under CI=true that is a failure')
  const path = result.stdout.trim()
  return path === '' ? undefined : path
}

export function launch(executablePath: string): Promise<Browser> {
  return chromium.launch({ executablePath, args: ARGS })
}

/** The UI as the sources are now, built into a directory of its own: a test must not pass on an old build. */
export async function buildWeb(): Promise<{ readonly dir: string; readonly remove: () => void }> {
  const parent = mkdtempSync(join(tmpdir(), 'holdfast-web-'))
  const dir = join(parent, 'web')
  await build({ configFile: join(root, 'web/vite.config.ts'), logLevel: 'warn', build: { outDir: dir } })
  return { dir, remove: () => { rmSync(parent, { recursive: true }) } }
}

/** A console on a free port. With `demo`, the fault buttons are there. */
export async function serveConsole(webDir: string, options: OperateOptions & { readonly withDemo?: boolean; readonly port?: number; readonly fake?: FakeHoldfast } = {}): Promise<{ readonly fake: FakeHoldfast; readonly served: Served; readonly url: string }> {
  const { withDemo, port, fake: given, ...rest } = options
  const fake = given ?? fakeHoldfast(realEnv())
  const page = operate(fake, { webDir, ...(withDemo === true ? { demo: fakeDemo(fake) } : {}), ...rest })
  const served = await serve(combine([page]), { port: port ?? 0 })
  return { fake, served, url: `${served.url}/console/` }
}
