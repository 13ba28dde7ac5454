/**
 * Debian packages that tests need beside npm's: finds a program, or installs its package by apt-get where that is possible.
 *
 * Where nothing can be installed (no apt-get, no rights, no network) it says so in one line with the remedy and ends the script that
 * asked: the tests in question are then skipped; under CI=true that is a failure and it exits 1.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** A slow mirror takes two minutes; longer than this is a network that hangs. */
const INSTALL_MS_MAX = 600_000

function apt(...args) {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n']
  const [command, ...rest] = [...sudo, 'apt-get', ...args]
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  return spawnSync(command, rest, { env, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8', timeout: INSTALL_MS_MAX })
}

/**
 * The path of the first of `candidates` that exists, after installing `packages` where none does.
 * `tests`: what is skipped otherwise, as the beginning of a sentence. `remedy`: what a person can do.
 */
export function programFrom({ program, candidates, packages, tests, remedy }) {
  const found = () => candidates.find(path => path !== undefined && path !== '' && existsSync(path))
  const giveUp = why => {
    process.stderr.write(`${tests} skipped: ${why}. Remedy: ${remedy}.\n`)
    process.exit(process.env.CI === 'true' ? 1 : 0)
  }
  const already = found()
  if (already !== undefined) return already
  if (process.platform !== 'linux' || !existsSync('/usr/bin/apt-get')) giveUp(`there is no ${program} here and no apt-get to install it with`)
  process.stderr.write(`Installing ${program} by apt-get (once, about a minute)...\n`)
  apt('-qq', '-o', 'DPkg::Lock::Timeout=120', 'update')
  const result = apt('-qq', '-o', 'DPkg::Lock::Timeout=300', 'install', '-y', '--no-install-recommends', ...packages)
  if (result.status !== 0) {
    const last = (result.stderr ?? result.error?.message ?? '').trim().split('\n').at(-1)
    giveUp(`apt-get could not install ${program} (${last === '' || last === undefined ? 'no reason given' : last})`)
  }
  const path = found()
  if (path === undefined) giveUp(`apt-get reported success, but there is no ${program}`)
  return path
}
