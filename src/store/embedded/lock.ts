/**
 * The lock of a data directory: one file, held by heartbeat. PGlite takes none, and a second opener silently destroys data.
 *
 * The file appears with its content in one step (a link to a file already written), so exactly one process gets it. A dead
 * owner's lock is taken over: at once where it ran on this host and is gone, else when its heartbeat has stood still
 * for 20 s. The right to remove a dead owner's file is itself such a lock, so that of two who find it dead only one acts.
 * An owner that finds its file gone or replaced (it was stopped for longer than that) is told, and must not write again.
 */
import { link, mkdir, open, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { HoldfastError, type Env, type Timer } from '../../core/index.ts'
import { isRunning, thisProcess, type ProcessIdentity } from './process-identity.ts'

export interface LockTimes {
  readonly heartbeatMs: number
  /** Longer than anything that blocks the event loop of a living owner: PGlite does so for up to 12 s when it makes a new directory. */
  readonly staleMs: number
}

export const LOCK_TIMES: LockTimes = Object.freeze({ heartbeatMs: 2_000, staleMs: 20_000 })

interface Owner extends ProcessIdentity {
  /** Random: two locks of one process are told apart. */
  readonly owner: string
  readonly since: string
}

export interface DirectoryLock {
  /** Removes the file, if it is still ours. */
  release(): Promise<void>
}

const FILE = 'holdfast.lock'
/** Contenders that keep meeting a lock which is just being released or taken over. */
const TRIES = 20

/**
 * Takes the lock of `dir`. `onLost` is called once if somebody else has taken it over.
 * @throws HF_STORE_LOCKED naming the owner's pid and the directory
 */
export async function lockDirectory(dir: string, env: Env, onLost: () => void, times: LockTimes = LOCK_TIMES): Promise<DirectoryLock> {
  await mkdir(dir, { recursive: true })
  const path = join(dir, FILE)
  const me: Owner = { ...thisProcess(), owner: env.uuid(), since: new Date(env.now()).toISOString() }
  const other = await seize(path, me, env, times, 0)
  if (other !== undefined) throw locked(dir, other, me)
  return hold(path, me, env, onLost, times)
}

/** Undefined: it is ours. Else who has it. */
async function seize(path: string, me: Owner, env: Env, times: LockTimes, depth: number): Promise<Owner | undefined> {
  let seen: Owner | undefined
  for (let attempt = 0; attempt < TRIES; attempt++) {
    if (await create(path, me)) return undefined
    const owner = await read(path)
    if (owner === undefined) continue
    seen = owner
    if (depth > 3 || await lives(path, owner, me, env, times)) return owner
    const guard = `${path}.${owner.owner}`
    if (await seize(guard, me, env, times, depth + 1) !== undefined) {
      await env.sleep(10)
      continue
    }
    try {
      // Whoever was here before us has put his own in place: then it is looked at anew.
      if ((await read(path))?.owner === owner.owner) await remove(path)
    } finally {
      await remove(guard)
    }
  }
  return seen
}

/** With its content, in one step: nobody ever sees an empty lock. */
async function create(path: string, me: Owner): Promise<boolean> {
  const draft = join(dirname(path), `.${me.owner}.lock-draft`)
  await writeFile(draft, JSON.stringify(me))
  try {
    await link(draft, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    await remove(draft)
  }
}

async function lives(path: string, owner: Owner, me: Owner, env: Env, times: LockTimes): Promise<boolean> {
  if (owner.host === me.host) return isRunning(owner)
  // The clocks of two hosts may differ, so the age is measured by the file system: against a file that it stamps now.
  const probe = join(dirname(path), `.${env.uuid()}.lock-probe`)
  await writeFile(probe, '')
  try {
    const [ours, theirs] = await Promise.all([stat(probe), stat(path)])
    return ours.mtimeMs - theirs.mtimeMs < times.staleMs
  } catch (error) {
    // Released while we looked: the next attempt gets it.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  } finally {
    await remove(probe)
  }
}

function hold(path: string, me: Owner, env: Env, onLost: () => void, { heartbeatMs }: LockTimes): DirectoryLock {
  let timer: Timer | undefined
  let released = false
  let beating: Promise<void> = Promise.resolve()
  const beat = async (): Promise<void> => {
    if ((await read(path))?.owner !== me.owner) {
      released = true
      onLost()
      return
    }
    // Same text, same length: a reader never sees half of it, and the file system stamps it with its own clock.
    const file = await open(path, 'r+')
    try {
      await file.write(JSON.stringify(me), 0)
    } finally {
      await file.close()
    }
  }
  const schedule = (): void => {
    timer = env.timer(heartbeatMs, () => {
      // A heartbeat that fails (disk full, volume gone for a moment) is tried again; the store's own writes will tell.
      beating = beat().catch(() => undefined).then(() => { if (!released) schedule() })
    })
  }
  schedule()
  return {
    release: async () => {
      if (released) return
      released = true
      timer?.cancel()
      await beating
      if ((await read(path))?.owner === me.owner) await remove(path)
    },
  }
}

/** Undefined: there is none. A file that is no lock of ours counts as somebody's whose heartbeat alone is judged. */
async function read(path: string): Promise<Owner | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    const owner = JSON.parse(text) as Partial<Owner>
    if (typeof owner.owner === 'string' && typeof owner.host === 'string' && typeof owner.pid === 'number' && typeof owner.started === 'string') return owner as Owner
  } catch {
    // Not JSON: judged below.
  }
  return { owner: 'unreadable', host: 'unknown', pid: 0, started: '', since: '' }
}

async function remove(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  })
}

function locked(dir: string, owner: Owner, me: Owner): HoldfastError {
  const where = owner.host === me.host ? (owner.pid === me.pid ? 'this process itself' : `process ${String(owner.pid)}`) : `process ${String(owner.pid)} on ${owner.host.split('/')[0] ?? '?'}`
  return new HoldfastError('HF_STORE_LOCKED', {
    message: `the data directory ${dir} is open in ${where} (pid ${String(owner.pid)}, since ${owner.since}); stop it or use another directory`,
    context: { dir, pid: owner.pid },
  })
}
