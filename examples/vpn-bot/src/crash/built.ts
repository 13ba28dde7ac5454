/**
 * For tests that run the built program: makes sure that what they run is what the sources say.
 *
 * After `npm ci` it is; after an edit it may not be, and a test of yesterday's program proves nothing.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Env } from 'holdfast/core'

const ROOT = resolve(import.meta.dirname, '../../../..')
const LOCK = join(ROOT, 'node_modules/.cache/holdfast-build.lock')
const LOCK_WAIT_MS = 120_000
const LOOK_EVERY_MS = 100

/** Builds what has changed, one test worker at a time. @throws Error with the compiler's output */
export async function ensureBuilt(env: Env): Promise<void> {
  mkdirSync(resolve(LOCK, '..'), { recursive: true })
  for (let waited = 0; !locked(); waited += LOOK_EVERY_MS) {
    // Older than any build: whoever held it died.
    if (waited >= LOCK_WAIT_MS) rmSync(LOCK, { recursive: true, force: true })
    await env.sleep(LOOK_EVERY_MS)
  }
  try {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, 'scripts/prepare.mjs'), '--quiet'], { cwd: ROOT, encoding: 'utf8' })
    if (status !== 0) throw new Error(`the program could not be built: ${stdout}${stderr}`)
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
