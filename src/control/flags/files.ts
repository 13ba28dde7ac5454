/**
 * The two files beside the service: the last known good overrides, and the local override file.
 *
 * `flags.last-known.json` is written by us, atomically, so that a service that starts while the store is away still
 * knows what operators decided. `flags.override.json` is written by a person or the CLI, so that a kill works with the
 * store dead: `{ "payments": false }` or `{ "payments": { "on": false, "reason": "...", "actor": "..." } }`.
 *
 * A file that cannot be understood changes nothing: what was known before stays in force, and the error says why.
 */
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface FileOverride {
  readonly on: boolean
  readonly actor: string
  readonly reason: string
}

/** An override of the store as it is kept on disk: with the wall clock, the only one that outlives the process. */
export interface KeptOverride {
  readonly flag: string
  readonly on: boolean
  readonly actor: string
  readonly reason: string
  readonly at: number
  readonly version: number
  readonly expiresAt?: number
}

/** Larger than any honest file of switches. */
const FILE_BYTES_MAX = 256 * 1_024

export class FlagFiles {
  readonly #dir: string
  /** What the override file looked like when it was last understood. */
  #seen: string | undefined
  #writing: Promise<void> = Promise.resolve()

  constructor(dir: string) {
    this.#dir = dir
  }

  /** `undefined` while the override file is unchanged since the last call; an empty map where there is none. */
  async readOverrides(): Promise<ReadonlyMap<string, FileOverride> | undefined> {
    const path = join(this.#dir, 'flags.override.json')
    const info = await stat(path).catch(unlessMissing)
    const look = info === undefined ? 'none' : `${String(info.mtimeMs)}:${String(info.size)}:${String(info.ino)}`
    if (look === this.#seen) return undefined
    const overrides = info === undefined ? new Map<string, FileOverride>() : parseOverrides(await readBounded(path, info.size))
    this.#seen = look
    return overrides
  }

  /** @throws whatever the disk throws; a damaged file is an error and not an empty list. */
  async readLastKnown(): Promise<readonly KeptOverride[]> {
    const path = join(this.#dir, 'flags.last-known.json')
    const info = await stat(path).catch(unlessMissing)
    if (info === undefined) return []
    const parsed: unknown = JSON.parse(await readBounded(path, info.size))
    if (!isRecord(parsed) || !Array.isArray(parsed['overrides'])) throw new Error('flags.last-known.json holds no list of overrides')
    return parsed['overrides'].filter(isKept)
  }

  /** One write at a time; a reader sees the old file or the new one. */
  writeLastKnown(overrides: readonly KeptOverride[]): Promise<void> {
    const path = join(this.#dir, 'flags.last-known.json')
    const write = async (): Promise<void> => {
      await mkdir(this.#dir, { recursive: true })
      await writeFile(`${path}.new`, `${JSON.stringify({ overrides }, undefined, 2)}\n`, { mode: 0o600 })
      await rename(`${path}.new`, path)
    }
    const next = this.#writing.then(write)
    // The caller hears of a failed write; the next write must not.
    this.#writing = next.catch(() => undefined)
    return next
  }

  /** Resolves when nothing is being written. */
  settled(): Promise<void> {
    return this.#writing
  }
}

async function readBounded(path: string, size: number): Promise<string> {
  if (size > FILE_BYTES_MAX) throw new Error(`${path} has ${String(size)} bytes; expected ${String(FILE_BYTES_MAX)} at most`)
  return readFile(path, 'utf8')
}

/** @throws where any entry is not understood: half a file of kills is worse than the last good one. */
function parseOverrides(text: string): ReadonlyMap<string, FileOverride> {
  const parsed: unknown = JSON.parse(text)
  if (!isRecord(parsed)) throw new Error('flags.override.json: expected an object such as { "payments": false }')
  const overrides = new Map<string, FileOverride>()
  for (const [flag, entry] of Object.entries(parsed)) {
    const on = isRecord(entry) ? entry['on'] : entry
    if (typeof on !== 'boolean') throw new Error(`flags.override.json: ${flag}: expected true, false or { "on": true|false, "reason": "..." }`)
    const text = (key: string, otherwise: string): string => (isRecord(entry) && typeof entry[key] === 'string' ? entry[key] : otherwise)
    overrides.set(flag, { on, actor: text('actor', 'file:flags.override.json'), reason: text('reason', 'local override file') })
  }
  return overrides
}

function isKept(value: unknown): value is KeptOverride {
  return isRecord(value) && typeof value['flag'] === 'string' && typeof value['on'] === 'boolean' && typeof value['actor'] === 'string' && typeof value['reason'] === 'string'
    && typeof value['at'] === 'number' && typeof value['version'] === 'number' && (value['expiresAt'] === undefined || typeof value['expiresAt'] === 'number')
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unlessMissing(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
  throw error
}
