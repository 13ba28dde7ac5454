/**
 * `holdfast.json`: where a running service is, for the CLI on the same machine.
 *
 * Written with mode 600 by rename, so that nobody else reads the token and nobody reads half a file; removed on stop, but only
 * while it is still ours: a newer process in the same directory keeps its own.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const RUNTIME_FILE = 'holdfast.json'

/** What the file says. */
export interface Runtime {
  /** With the console's base path: `http://127.0.0.1:8700/console`. */
  readonly url: string
  readonly pid: number
  readonly token?: string
}

/** @throws what the file system throws */
export function writeRuntimeFile(dir: string, runtime: Runtime): { readonly path: string; readonly remove: () => void } {
  mkdirSync(dir, { recursive: true })
  const path = join(dir, RUNTIME_FILE)
  const draft = `${path}.${String(runtime.pid)}.tmp`
  writeFileSync(draft, `${JSON.stringify(runtime)}\n`, { mode: 0o600 })
  // The mode above counts only for a new file; a draft left by a crash would keep its own.
  chmodSync(draft, 0o600)
  renameSync(draft, path)
  return {
    path,
    remove: () => { if (readRuntimeFile(dir)?.pid === runtime.pid) rmSync(path, { force: true }) },
  }
}

/** What the file in `dir` says; undefined when there is none, or none that can be read. */
export function readRuntimeFile(dir: string): Runtime | undefined {
  try {
    const found = JSON.parse(readFileSync(join(dir, RUNTIME_FILE), 'utf8')) as Partial<Runtime>
    if (typeof found.url !== 'string' || typeof found.pid !== 'number') return undefined
    return { url: found.url, pid: found.pid, ...(typeof found.token === 'string' ? { token: found.token } : {}) }
  } catch {
    // Not there, or not ours to read: the caller says that no service was found, and where it looked.
    return undefined
  }
}
