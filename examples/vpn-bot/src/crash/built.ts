/**
 * For tests that run the built program: makes sure that what they run is what the sources say.
 *
 * After `npm ci` it is; after an edit it may not be, and a test of yesterday's program proves nothing.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Env } from 'holdfast/core'

const ROOT = resolve(import.meta.dirname, '../../../..')
/** Sources, what the compiler makes of them, and how it is told to. */
const PROJECTS = [
  ['src', 'dist', 'tsconfig.build.json'],
  ['simulators', 'simulators/dist', 'simulators/tsconfig.build.json'],
  ['examples/vpn-bot/src', 'examples/vpn-bot/dist', 'examples/vpn-bot/tsconfig.build.json'],
] as const
const LOCK = join(ROOT, 'node_modules/.cache/holdfast-build.lock')
const LOCK_WAIT_MS = 120_000
const LOOK_EVERY_MS = 100

/** @throws Error with the compiler's output */
export async function ensureBuilt(env: Env): Promise<void> {
  mkdirSync(resolve(LOCK, '..'), { recursive: true })
  for (let waited = 0; !locked(); waited += LOOK_EVERY_MS) {
    // Older than any build: whoever held it died.
    if (waited >= LOCK_WAIT_MS) rmSync(LOCK, { recursive: true, force: true })
    await env.sleep(LOOK_EVERY_MS)
  }
  try {
    for (const [sources, built, config] of PROJECTS) {
      if (!isStale(join(ROOT, sources), join(ROOT, built))) continue
      const { status, stdout } = spawnSync(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', config, '--noCheck'], { cwd: ROOT, encoding: 'utf8' })
      if (status !== 0) throw new Error(`building ${sources} failed: ${stdout}`)
    }
  } finally {
    rmSync(LOCK, { recursive: true, force: true })
  }
}

function locked(): boolean {
  try {
    mkdirSync(LOCK)
    return true
  } catch {
    // Another worker builds.
    return false
  }
}

/** Is there a source that is newer than what was made of it, or of which nothing was made? */
function isStale(sources: string, built: string): boolean {
  return readdirSync(sources, { recursive: true, withFileTypes: true }).some(entry => {
    const path = join(entry.parentPath, entry.name)
    const relative = path.slice(sources.length + 1)
    if (!entry.isFile() || !entry.name.endsWith('.ts') || /(?:^|\/)(?:dist|node_modules)\/|\.test\.ts$|(?:^|\/)contract\.ts$/.test(relative)) return false
    const output = join(built, relative.replace(/\.ts$/, '.js'))
    return !existsSync(output) || statSync(output).mtimeMs < statSync(path).mtimeMs
  })
}
