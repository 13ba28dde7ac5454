/**
 * A disk that loses its power: records what a program does to the files below one directory, and makes the directory as it may
 * be found when the power goes at any point of that record.
 *
 * The model is the strict reading of POSIX, harder than any file system in use. An fsync or fdatasync of a file makes its content durable,
 * and nothing else; an fsync of a directory makes the names in it durable. Of what was not flushed, each sector of each write
 * and each change of length survives or does not, independently; of the changes of one directory's names a prefix does.
 */
import fs, { type PathOrFileDescriptor } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { basename, dirname, join, relative, resolve } from 'node:path'

export type Step =
  | { readonly what: 'create' | 'mkdir' | 'unlink'; readonly path: string }
  | { readonly what: 'rename'; readonly path: string; readonly to: string }
  | { readonly what: 'write'; readonly path: string; readonly at: number; readonly data: Buffer }
  | { readonly what: 'truncate'; readonly path: string; readonly size: number }
  | { readonly what: 'flush'; readonly path: string }
  /** The program was told that everything up to `n` is done. */
  | { readonly what: 'acknowledged'; readonly n: number }

export interface Recording {
  readonly steps: readonly Step[]
  acknowledge(n: number): void
  stop(): void
}

/** What PGlite and this room use; that nothing else changes the files is shown by comparing what is recorded with the real directory. */
const SYNC = ['openSync', 'closeSync', 'writeSync', 'writeFileSync', 'truncateSync', 'ftruncateSync', 'renameSync', 'unlinkSync', 'rmdirSync', 'mkdirSync', 'fsyncSync', 'fdatasyncSync'] as const
const PROMISES = ['open', 'writeFile', 'mkdir', 'rename', 'rm'] as const

/** From here on what this process does below `dir` (which is empty or missing) is recorded, until `stop`. */
export function record(dir: string): Recording {
  const steps: Step[] = []
  const root = resolve(dir)
  const open = new Map<number, string>()
  const inside = (path: unknown): string | undefined => {
    if (typeof path !== 'string') return undefined
    const name = relative(root, resolve(path))
    // The lock and its drafts are no part of the database: they say who lives, and after a power failure nobody does.
    return name.startsWith('..') || name.includes('holdfast.lock') || name.includes('.lock-') ? undefined : name
  }
  const pathOf = (target: PathOrFileDescriptor): string | undefined => (typeof target === 'number' ? open.get(target) : inside(target))
  const bytes = (data: string | NodeJS.ArrayBufferView, offset = 0, length?: number): Buffer => {
    const all = typeof data === 'string' ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    return Buffer.from(all.subarray(offset, length === undefined ? undefined : offset + length))
  }
  const known = new Set<string>()
  const see = (path: string, what: 'create' | 'mkdir'): void => {
    if (known.has(path)) return
    known.add(path)
    steps.push({ what, path })
  }
  const whole = (path: string, data: string | NodeJS.ArrayBufferView): void => {
    see(path, 'create')
    steps.push({ what: 'truncate', path, size: 0 })
    if (bytes(data).length > 0) steps.push({ what: 'write', path, at: 0, data: bytes(data) })
  }
  const make = (path: string): void => {
    if (path === '' || known.has(path)) return
    make(dirname(path) === '.' ? '' : dirname(path))
    see(path, 'mkdir')
  }
  const renamed = (from: string, to: string): void => {
    steps.push({ what: 'rename', path: from, to })
    for (const name of [...known]) {
      if (name === from || name.startsWith(`${from}/`)) {
        known.delete(name)
        known.add(to + name.slice(from.length))
      }
    }
  }

  const real = { ...Object.fromEntries(SYNC.map(name => [name, fs[name]])) } as unknown as Pick<typeof fs, (typeof SYNC)[number]>
  const realPromises = Object.fromEntries(PROMISES.map(name => [name, fs.promises[name]])) as unknown as Pick<typeof fs.promises, (typeof PROMISES)[number]>
  Object.assign(fs, {
    openSync: (path: string, flags: string | number = 'r', mode?: number) => {
      const file = real.openSync(path, flags, mode)
      const name = inside(path)
      if (name !== undefined) {
        open.set(file, name)
        if (typeof flags === 'number' && (flags & fs.constants.O_CREAT) !== 0) see(name, 'create')
        if (typeof flags === 'number' && (flags & fs.constants.O_TRUNC) !== 0) steps.push({ what: 'truncate', path: name, size: 0 })
      }
      return file
    },
    closeSync: (file: number) => {
      real.closeSync(file)
      open.delete(file)
    },
    writeSync: (file: number, data: NodeJS.ArrayBufferView, offset: number, length: number, position: number | null) => {
      const written = real.writeSync(file, data, offset, length, position)
      const path = open.get(file)
      if (path !== undefined) {
        if (typeof position !== 'number') throw new Error(`a write to ${path} without its position cannot be recorded`)
        steps.push({ what: 'write', path, at: position, data: bytes(data, offset, written) })
      }
      return written
    },
    writeFileSync: (target: string, data: string, options?: fs.WriteFileOptions) => {
      real.writeFileSync(target, data, options)
      const path = pathOf(target)
      if (path !== undefined) whole(path, data)
    },
    truncateSync: (path: string, size = 0) => {
      real.truncateSync(path, size)
      const name = inside(path)
      if (name !== undefined) steps.push({ what: 'truncate', path: name, size })
    },
    ftruncateSync: (file: number, size = 0) => {
      real.ftruncateSync(file, size)
      const path = open.get(file)
      if (path !== undefined) steps.push({ what: 'truncate', path, size })
    },
    renameSync: (from: string, to: string) => {
      real.renameSync(from, to)
      const [name, target] = [inside(from), inside(to)]
      if (name !== undefined && target !== undefined) renamed(name, target)
      for (const [file, path] of open) if (path === name && target !== undefined) open.set(file, target)
    },
    unlinkSync: (path: string) => {
      real.unlinkSync(path)
      const name = inside(path)
      if (name !== undefined && known.delete(name)) steps.push({ what: 'unlink', path: name })
    },
    rmdirSync: (path: string) => {
      real.rmdirSync(path)
      const name = inside(path)
      if (name !== undefined && known.delete(name)) steps.push({ what: 'unlink', path: name })
    },
    mkdirSync: (path: string, options?: fs.MakeDirectoryOptions) => {
      const made = real.mkdirSync(path, options)
      const name = inside(path)
      if (name !== undefined) make(name)
      return made
    },
    fsyncSync: (file: number) => {
      real.fsyncSync(file)
      const path = open.get(file)
      if (path !== undefined) steps.push({ what: 'flush', path })
    },
    fdatasyncSync: (file: number) => {
      real.fdatasyncSync(file)
      const path = open.get(file)
      if (path !== undefined) steps.push({ what: 'flush', path })
    },
  })
  Object.assign(fs.promises, {
    open: async (path: string, flags?: string, mode?: number) => {
      const file = await realPromises.open(path, flags, mode)
      const name = inside(path)
      if (name !== undefined) {
        const sync = file.sync.bind(file)
        file.sync = async () => {
          await sync()
          steps.push({ what: 'flush', path: name })
        }
      }
      return file
    },
    writeFile: async (path: string, data: string | NodeJS.ArrayBufferView, options?: fs.WriteFileOptions) => {
      await realPromises.writeFile(path, data, options)
      const name = inside(path)
      if (name !== undefined) whole(name, data)
    },
    mkdir: async (path: string, options?: fs.MakeDirectoryOptions) => {
      const made = await realPromises.mkdir(path, options)
      const name = inside(path)
      if (name !== undefined) make(name)
      return made
    },
    rename: async (from: string, to: string) => {
      await realPromises.rename(from, to)
      const [name, target] = [inside(from), inside(to)]
      if (name !== undefined && target !== undefined) renamed(name, target)
    },
    rm: async (path: string, options?: fs.RmOptions) => {
      await realPromises.rm(path, options)
      const name = inside(path)
      if (name !== undefined && known.has(name)) throw new Error(`the removal of ${name} cannot be recorded`)
    },
  })
  // Named imports of the modules follow.
  syncBuiltinESMExports()
  return {
    steps,
    acknowledge: n => { steps.push({ what: 'acknowledged', n }) },
    stop: () => {
      Object.assign(fs, real)
      Object.assign(fs.promises, realPromises)
      syncBuiltinESMExports()
    },
  }
}

interface File {
  readonly kind: 'file'
  durable: Buffer
  pending: (Extract<Step, { readonly what: 'write' | 'truncate' }>)[]
}

interface Directory {
  readonly kind: 'directory'
  readonly durable: Map<string, Entry>
  readonly now: Map<string, Entry>
  pending: { readonly name: string; readonly entry: Entry | undefined; readonly without?: string }[]
}

type Entry = File | Directory

/** What survives of what was not flushed. */
export interface Survival {
  /** `none`: what a disk without a cache of its own may do at worst; `all`: the death of the process alone; `some`: each by `random`. */
  readonly unflushed: 'none' | 'all' | 'some'
  /** Writes are torn at multiples of this. A page of PostgreSQL has 8192 bytes, its control data fits in 512. */
  readonly sectorBytes: 512 | 4_096
  /** 0..1 */
  readonly random: () => number
}

export class LosingDisk {
  readonly #root: Directory = directory()
  acknowledged = 0

  apply(step: Step): void {
    if (step.what === 'acknowledged') {
      this.acknowledged = step.n
      return
    }
    if (step.what === 'flush') {
      const entry = this.#find(step.path)
      if (entry.kind === 'file') {
        entry.durable = content(entry)
        entry.pending = []
      } else {
        for (const change of entry.pending) applyTo(entry.durable, change)
        entry.pending = []
      }
      return
    }
    if (step.what === 'write' || step.what === 'truncate') {
      const file = this.#find(step.path)
      if (file.kind === 'file') file.pending.push(step)
      return
    }
    const parent = this.#directory(dirname(step.path))
    const name = basename(step.path)
    if (step.what === 'rename') {
      if (dirname(step.to) !== dirname(step.path)) throw new Error(`a rename from one directory to another is not modelled: ${step.path} to ${step.to}`)
      change(parent, { name: basename(step.to), entry: this.#find(step.path), without: name })
    } else if (step.what === 'unlink') {
      change(parent, { name, entry: undefined })
    } else {
      change(parent, { name, entry: step.what === 'create' ? { kind: 'file', durable: Buffer.alloc(0), pending: [] } : directory() })
    }
  }

  /** Writes the directory as it may be found after the power went now. The disk itself goes on. */
  materialise(dir: string, survival: Survival): void {
    const names = (at: Directory): Map<string, Entry> => {
      if (survival.unflushed === 'all') return at.now
      const found = new Map(at.durable)
      const kept = survival.unflushed === 'none' ? 0 : Math.floor(survival.random() * (at.pending.length + 1))
      for (const change of at.pending.slice(0, kept)) applyTo(found, change)
      return found
    }
    const write = (at: Directory, path: string): void => {
      fs.mkdirSync(path, { recursive: true })
      for (const [name, entry] of names(at)) {
        if (entry.kind === 'directory') write(entry, join(path, name))
        else fs.writeFileSync(join(path, name), content(entry, survival))
      }
    }
    write(this.#root, dir)
  }

  #find(path: string): Entry {
    let at: Entry = this.#root
    for (const part of path.split('/').filter(each => each !== '' && each !== '.')) {
      const next: Entry | undefined = at.kind === 'directory' ? at.now.get(part) : undefined
      if (next === undefined) throw new Error(`${path} was never made`)
      at = next
    }
    return at
  }

  #directory(path: string): Directory {
    const entry = this.#find(path)
    if (entry.kind === 'file') throw new Error(`${path} is a file`)
    return entry
  }
}

function directory(): Directory {
  return { kind: 'directory', durable: new Map(), now: new Map(), pending: [] }
}

function change(parent: Directory, made: Directory['pending'][number]): void {
  applyTo(parent.now, made)
  parent.pending.push(made)
}

function applyTo(names: Map<string, Entry>, { name, entry, without }: Directory['pending'][number]): void {
  if (without !== undefined) names.delete(without)
  if (entry === undefined) names.delete(name)
  else names.set(name, entry)
}

/** Without `survival`: all that was written, which the disk then has. */
function content({ durable, pending }: File, survival?: Survival): Buffer {
  if (pending.length === 0 || survival?.unflushed === 'none') return durable
  // Room for the longest that it may be, at once: growing by sectors would copy a segment of the log thousands of times.
  const extent = pending.reduce((longest, step) => Math.max(longest, step.what === 'truncate' ? step.size : step.at + step.data.length), durable.length)
  // Without `survival` it is the disk itself that takes the writes in.
  const room = survival === undefined && extent <= durable.length ? durable : Buffer.concat([durable], extent)
  const survives = (): boolean => survival?.unflushed !== 'some' || survival.random() < 0.5
  let size = durable.length
  for (const step of pending) {
    if (step.what === 'truncate') {
      if (!survives()) continue
      // What lay behind is zero when the file grows again.
      room.fill(0, step.size, Math.max(size, step.size))
      size = step.size
      continue
    }
    const { at, data } = step
    const sector = survival?.sectorBytes ?? data.length
    for (let from = 0; from < data.length;) {
      // A write that begins within a sector is torn at the sector's end.
      const to = survival === undefined ? data.length : Math.min(data.length, from + sector - ((at + from) % sector))
      if (survives()) {
        data.copy(room, at + from, from, to)
        size = Math.max(size, at + to)
      }
      from = to
    }
  }
  return room.subarray(0, size)
}
