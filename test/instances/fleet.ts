/**
 * The instances of a run: processes behind a proxy each, which are killed, frozen, cut off, and started again.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { build } from 'vite'
import { faultProxy, type FaultProxy } from '../../src/testing/index.ts'
import type { FromInstance, InstanceSettings, Order, ToInstance } from './protocol.ts'

const ROOT = resolve(import.meta.dirname, '../..')

/** One file of JavaScript per program, so that a killed one is back soon. Beside the packages that it imports. */
export async function bundle(...entries: readonly string[]): Promise<{ readonly dir: string; readonly remove: () => void }> {
  const dir = join(ROOT, 'node_modules/.cache', `holdfast-instances-${String(process.pid)}-${String(entries.length)}-${entries[0] ?? ''}`)
  mkdirSync(dir, { recursive: true })
  await build({
    configFile: false, root: ROOT, logLevel: 'error', resolve: { conditions: ['holdfast-source'] },
    build: { ssr: true, target: 'node20', outDir: dir, minify: false, rollupOptions: { input: entries.map(entry => join(import.meta.dirname, `${entry}.ts`)), output: { entryFileNames: '[name].mjs' } } },
  })
  return { dir, remove: () => { rmSync(dir, { recursive: true, force: true }) } }
}

/** A slot of the fleet: always the same proxy, now this process, now that. */
export interface Slot {
  readonly index: number
  readonly proxy: FaultProxy
  /** Of the process that is there now, once it is ready. */
  readonly instance: string | undefined
  /** A process is there, ready or not. */
  readonly running: boolean
  readonly frozen: boolean
  deliver(order: Order, delivery: number): void
  /** SIGKILL. Answers the instance that died, and undefined when none was ready. */
  kill(): string | undefined
  /** Starts another process in its place. */
  spawn(): void
  freeze(): void
  thaw(): void
}

export interface Fleet {
  readonly slots: readonly Slot[]
  /** Last words of instances that ended by themselves. */
  readonly ended: readonly string[]
  close(): Promise<void>
}

export interface FleetOptions {
  readonly size: number
  readonly program: string
  readonly historyDir: string
  readonly databaseUrl: string
  readonly settings: Omit<InstanceSettings, 'databaseUrl' | 'historyFile'>
  readonly onAcknowledged: (id: string) => void
}

export async function openFleet(options: FleetOptions): Promise<Fleet> {
  const ended: string[] = []
  const database = new URL(options.databaseUrl)
  const slots = await Promise.all(Array.from({ length: options.size }, async (_, index) => {
    const proxy = await faultProxy({ to: { host: database.hostname, port: Number(database.port) } })
    const slot = new FleetSlot(index, proxy, options, ended)
    slot.spawn()
    return slot
  }))
  return {
    slots, ended,
    close: async () => {
      for (const slot of slots) slot.kill()
      await Promise.all(slots.map(slot => slot.gone()))
      await Promise.all(slots.map(slot => slot.proxy.close()))
    },
  }
}

class FleetSlot implements Slot {
  readonly index: number
  readonly proxy: FaultProxy
  instance: string | undefined
  frozen = false
  readonly #options: FleetOptions
  readonly #ended: string[]
  #child: ChildProcess | undefined
  #exits: Promise<unknown>[] = []
  #births = 0

  constructor(index: number, proxy: FaultProxy, options: FleetOptions, ended: string[]) {
    this.index = index
    this.proxy = proxy
    this.#options = options
    this.#ended = ended
  }

  get running(): boolean {
    return this.#child !== undefined
  }

  spawn(): void {
    const { databaseUrl, settings, program, historyDir, onAcknowledged } = this.#options
    const through = new URL(databaseUrl)
    through.host = `${this.proxy.host}:${String(this.proxy.port)}`
    this.#births += 1
    const given: InstanceSettings = { ...settings, databaseUrl: through.href, historyFile: join(historyDir, `${String(this.index)}-${String(this.#births)}.jsonl`) }
    const child = fork(program, [JSON.stringify(given)], { execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'], env: { ...process.env, NODE_OPTIONS: '' } })
    this.#child = child
    this.frozen = false
    this.instance = undefined
    let stderr = ''
    child.stderr?.on('data', (chunk: Buffer) => { stderr = `${stderr}${chunk.toString()}`.slice(-2_000) })
    // A message to one that has just died; its end is told by 'exit'.
    child.on('error', () => undefined)
    child.on('message', (message: FromInstance) => {
      if (message.type === 'acknowledged') onAcknowledged(message.id)
      else if (this.#child === child) this.instance = message.instance
    })
    this.#exits.push(new Promise<void>(done => {
      child.once('exit', (code, signal) => {
        if (this.#child === child) {
          this.#child = undefined
          this.instance = undefined
          // A start that meets a crashing server gives up; whoever supervises starts it again.
          if (signal !== 'SIGKILL') {
            this.#ended.push(`exit ${String(code)}: ${stderr}`)
            this.spawn()
          }
        }
        done()
      })
    }))
  }

  deliver(order: Order, delivery: number): void {
    const message: ToInstance = { type: 'deliver', order, delivery }
    if (this.#child?.connected === true) this.#child.send(message, () => undefined)
  }

  kill(): string | undefined {
    const { instance } = this
    const child = this.#child
    this.#child = undefined
    this.instance = undefined
    this.frozen = false
    child?.kill('SIGKILL')
    return instance
  }

  freeze(): void {
    this.frozen = true
    this.#child?.kill('SIGSTOP')
  }

  thaw(): void {
    this.frozen = false
    this.#child?.kill('SIGCONT')
  }

  async gone(): Promise<void> {
    await Promise.all(this.#exits)
  }
}
