/**
 * Gives the browser tests a Chromium: prints its path, and installs Debian's `chromium` by apt-get when there is none.
 *
 *   node scripts/install-chromium.mjs            a path on standard output, when a browser is there
 *
 * `CHROMIUM` names another binary. Where nothing can be installed (no apt-get, no rights, no network) it says so in one line with
 * the remedy and prints no path, so that the browser tests are skipped; under CI=true that is a failure and it exits 1.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const CANDIDATES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
/** A slow mirror takes two minutes; longer than this is a network that hangs. */
const INSTALL_MS_MAX = 600_000

const found = () => [process.env.CHROMIUM, ...CANDIDATES].find(path => path !== undefined && path !== '' && existsSync(path))

function giveUp(why) {
  process.stderr.write(`Browser tests skipped: ${why}. Remedy: install Chromium (Debian: apt-get install chromium) or set CHROMIUM=/path/to/chromium.\n`)
  process.exit(process.env.CI === 'true' ? 1 : 0)
}

function apt(...args) {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n']
  const [command, ...rest] = [...sudo, 'apt-get', ...args]
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  return spawnSync(command, rest, { env, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8', timeout: INSTALL_MS_MAX })
}

function install() {
  if (process.platform !== 'linux' || !existsSync('/usr/bin/apt-get')) giveUp('there is no Chromium here and no apt-get to install it with')
  process.stderr.write('Installing chromium by apt-get (once, about a minute)...\n')
  apt('-qq', '-o', 'DPkg::Lock::Timeout=120', 'update')
  // Without a font a page is drawn as empty boxes.
  const result = apt('-qq', '-o', 'DPkg::Lock::Timeout=300', 'install', '-y', '--no-install-recommends', 'chromium', 'fonts-inter')
  if (result.status !== 0) {
    const last = (result.stderr ?? result.error?.message ?? '').trim().split('\n').at(-1)
    giveUp(`apt-get could not install chromium (${last === '' || last === undefined ? 'no reason given' : last})`)
  }
}

if (found() === undefined) install()
const path = found()
if (path === undefined) giveUp('apt-get reported success, but there is no Chromium')
process.stdout.write(`${path}\n`)
