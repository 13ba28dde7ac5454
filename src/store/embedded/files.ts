/**
 * The files of an embedded database: PGlite's own layer over the directory, with the one thing added that it lacks, fsync.
 *
 * PostgreSQL itself knows what must be on the disk before what (the log before a commit is answered, data before a
 * checkpoint is recorded) and asks for it by fsync; PGlite's layer has no such callback, so the request is lost. Here it
 * is carried out. A new file's name is flushed with its first content, so that nothing rests on a file system's kindness.
 * ./power-loss.test.ts drops what was not flushed and looks for what was acknowledged.
 */
import fs from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { NodeFS } from '@electric-sql/pglite/nodefs'

export interface FilesOptions {
  /** False: an fsync does nothing, as in PGlite itself. */
  readonly flush: boolean
  /** A flush failed. What PostgreSQL wrote before may be lost, and the kernel will not say so a second time: nothing may be written any more. */
  readonly onFlushFailed: (error: NodeJS.ErrnoException) => void
}

/** A file or directory of the mounted directory, as far as it is used here. */
interface Node {
  readonly name: string
  readonly parent: Node
  readonly mode: number
}

interface Stream {
  readonly node: Node
  readonly nfd: number
}

/** Emscripten's NODEFS; its typings leave these out. */
interface MountedFiles {
  readonly node_ops: {
    mknod: (parent: Node, name: string, mode: number, dev: number) => Node
    unlink: (parent: Node, name: string) => void
  }
  readonly stream_ops: {
    open: (stream: Stream) => void
    fsync?: (stream: Stream) => number
  }
  readonly realPath: (node: Node) => string
  readonly tryFSOperation: <T>(operation: () => T) => T
}

/** 16 MB each; named by timeline and position. */
const SEGMENT = /^[0-9A-F]{24}$/

export class DatabaseFiles extends NodeFS {
  readonly #options: FilesOptions
  /** Files whose name in their directory is not flushed yet. */
  readonly #unnamed = new Set<string>()
  #segment = ''
  #segmentsBegun = 0

  constructor(dir: string, options: FilesOptions) {
    super(dir)
    this.#options = options
  }

  /** How many segments of the log were begun since it was last asked: how much a crash would have to replay. */
  get segmentsBegun(): number {
    return this.#segmentsBegun
  }

  forgetSegments(): void {
    this.#segmentsBegun = 0
  }

  override async init(...[pglite, given]: Parameters<NodeFS['init']>): ReturnType<NodeFS['init']> {
    const { emscriptenOpts } = await super.init(pglite, given)
    return { emscriptenOpts: { ...emscriptenOpts, preRun: [...emscriptenOpts.preRun ?? [], (module: unknown) => { this.#mountOn((module as { readonly NODEFS: MountedFiles }).NODEFS) }] } }
  }

  #mountOn(files: MountedFiles): void {
    const { mknod, unlink } = files.node_ops
    const { open } = files.stream_ops
    files.node_ops.mknod = (parent, name, mode, dev) => {
      const node = mknod(parent, name, mode, dev)
      if (this.#options.flush) this.#unnamed.add(files.realPath(node))
      return node
    }
    files.node_ops.unlink = (parent, name) => {
      this.#unnamed.delete(`${files.realPath(parent)}/${name}`)
      unlink(parent, name)
    }
    files.stream_ops.open = stream => {
      const { name, parent } = stream.node
      if (parent.name === 'pg_wal' && name !== this.#segment && SEGMENT.test(name)) {
        this.#segment = name
        this.#segmentsBegun++
      }
      open(stream)
    }
    files.stream_ops.fsync = stream => files.tryFSOperation(() => {
      if (this.#options.flush) this.#flush(stream, files)
      return 0
    })
  }

  #flush({ node, nfd }: Stream, files: MountedFiles): void {
    const path = files.realPath(node)
    try {
      if (isDirectory(node)) {
        fs.fsyncSync(nfd)
        return
      }
      // A segment of the log has its full length already, so that its contents are enough: PostgreSQL's own choice on Linux.
      if (node.parent.name === 'pg_wal') fs.fdatasyncSync(nfd)
      else fs.fsyncSync(nfd)
      if (this.#unnamed.delete(path)) flushDirectory(dirname(path))
    } catch (error) {
      // Windows cannot flush a directory; its file system keeps names by itself.
      if (isDirectory(node) && process.platform === 'win32') return
      this.#options.onFlushFailed(error as NodeJS.ErrnoException)
      throw error
    }
  }
}

function isDirectory({ mode }: Node): boolean {
  return (mode & 0o170_000) === 0o040_000
}

/** The names in it. */
export function flushDirectory(dir: string): void {
  if (process.platform === 'win32') return
  const file = fs.openSync(dir, 'r')
  try {
    fs.fsyncSync(file)
  } finally {
    fs.closeSync(file)
  }
}

/** Flushes at once that a file system takes together into one entry of its journal; more would only fill the queue. */
const FLUSHES_AT_ONCE = 16

/** Everything below `dir`, and `dir` itself: before it gets the name under which it is looked for. */
export async function flushTree(dir: string): Promise<void> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const paths = entries.filter(entry => process.platform !== 'win32' || entry.isFile()).map(entry => join(entry.parentPath, entry.name))
  for (let at = 0; at < paths.length; at += FLUSHES_AT_ONCE) {
    await Promise.all(paths.slice(at, at + FLUSHES_AT_ONCE).map(async path => {
      const file = await open(path, 'r')
      try {
        await file.sync()
      } finally {
        await file.close()
      }
    }))
  }
  flushDirectory(dir)
}

/** The names that lead to `dir`, as far up as this user may. */
export function flushPathTo(dir: string): void {
  for (let at = dir; ; at = dirname(at)) {
    try {
      flushDirectory(at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EACCES' || at === dir) throw error
      return
    }
    if (at === dirname(at)) return
  }
}
