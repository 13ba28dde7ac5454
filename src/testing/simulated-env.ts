/**
 * A world without real time: virtual clocks, seeded randomness, in-process network, and processes that can die.
 *
 * Everything that happens is decided by the seed and by what the test does, so a failing schedule is replayed by its
 * number. Several processes (`env.process()`) share one world: one timeline, one network.
 *
 * Death is a promise that never settles: nothing of the victim runs any more, no `catch` and no `finally`, exactly as
 * after SIGKILL. What it had already handed to the store or the network stays done.
 */
import { durationMs, type Duration, type Env, sleepWith } from '../core/index.ts'

export type Handler = (request: Request) => Promise<Response>

export interface SimulatedEnvOptions {
  /** Same seed, same schedule. Default 1. */
  readonly seed?: number
  /** Wall clock at the start, milliseconds. Default 2026-01-01T00:00:00Z. */
  readonly startAt?: number
  /** Each outside call takes a random time within these bounds before it is applied, and again before its answer arrives. Default none. */
  readonly latencyMs?: readonly [min: number, max: number]
}

/** What a test may hook into around outside calls. A promise that never settles is a death at that point. */
export interface NetworkHooks {
  readonly before?: (url: string) => Promise<void> | void
  readonly after?: (url: string) => Promise<void> | void
}

export interface SimulatedEnv extends Env {
  /** Lets virtual time pass, firing what is due in order. */
  advance(by: Duration | number): Promise<void>
  /** Runs what can run without time passing. */
  settle(): Promise<void>
  /** Lets time pass until `done()` or until `within` is over; answers whether it was reached. */
  until(done: () => boolean, within: Duration | number): Promise<boolean>
  /** Answers every `env.fetch` to this origin (`http://panel.test`). */
  serve(origin: string, handler: Handler): void
  /** Makes the origin unreachable again. */
  unserve(origin: string): void
  /** Moves the wall clock of this process, forth or back. Monotonic time is not touched. */
  jump(ms: number): void
  /** Another process in the same world. */
  process(name?: string): SimulatedEnv
  /** SIGKILL: none of this process's timers, sleeps and calls settles any more. */
  kill(): void
  /** SIGSTOP: timers that come due and answers that arrive wait until `resume()`. */
  pause(): void
  resume(): void
  readonly alive: boolean
  onKill(listener: () => void): void
  /** Real work that virtual time must wait for: a statement of a real database, a file. Answers the same promise. */
  busy<T>(work: Promise<T>): Promise<T>
  /** For crash points around outside calls. */
  hooks: NetworkHooks
  /** Timers that are armed, of all processes; a leak test counts them. */
  readonly pendingTimers: number
}

interface Scheduled {
  readonly at: number
  readonly order: number
  readonly owner: SimulatedProcess
  readonly run: () => void
  cancelled: boolean
}

const WALL_START = Date.UTC(2026, 0, 1)

export function simulatedEnv(options: SimulatedEnvOptions = {}): SimulatedEnv {
  return new SimulatedProcess(new World(options), 'process-1')
}

/** A small, fast, well-spread generator (mulberry32); the state is one 32-bit number. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

class World {
  time = 0
  readonly startAt: number
  readonly random: () => number
  readonly origins = new Map<string, Handler>()
  readonly latency: readonly [number, number] | undefined
  readonly #heap: Scheduled[] = []
  processes = 1
  live = 0
  /** Real work under way. */
  busy = 0

  constructor(options: SimulatedEnvOptions) {
    this.random = seededRandom(options.seed ?? 1)
    this.startAt = options.startAt ?? WALL_START
    this.latency = options.latencyMs
  }

  schedule(owner: SimulatedProcess, ms: number, run: () => void): Scheduled {
    // Equal times are ordered by the seed: two timers due together race, as they do in the real world.
    const item: Scheduled = { at: this.time + Math.max(0, ms), order: this.random(), owner, run, cancelled: false }
    this.live += 1
    push(this.#heap, item)
    return item
  }

  cancel(item: Scheduled): void {
    if (item.cancelled) return
    item.cancelled = true
    this.live -= 1
  }

  /** Until nothing can run any more without time passing. */
  async #drain(): Promise<void> {
    await drain()
    while (this.busy > 0) await drain()
  }

  async runUntil(target: number, done?: () => boolean): Promise<boolean> {
    await this.#drain()
    if (done?.() === true) return true
    for (;;) {
      const next = this.#heap[0]
      if (next === undefined || next.at > target) break
      pop(this.#heap)
      if (next.cancelled) continue
      next.cancelled = true
      this.live -= 1
      this.time = next.at
      next.owner.fire(next.run)
      await this.#drain()
      if (done?.() === true) return true
    }
    this.time = Math.max(this.time, target)
    return done?.() ?? true
  }
}

class SimulatedProcess implements SimulatedEnv {
  readonly #world: World
  readonly #name: string
  #skewMs = 0
  #state: 'running' | 'paused' | 'dead' = 'running'
  #held: (() => void)[] = []
  readonly #killListeners: (() => void)[] = []
  hooks: NetworkHooks = {}
  readonly fetch: Env['fetch']

  constructor(world: World, name: string) {
    this.#world = world
    this.#name = name
    this.fetch = (input, init) => this.#call(input, init)
  }

  get alive(): boolean {
    return this.#state !== 'dead'
  }

  get pendingTimers(): number {
    return this.#world.live
  }

  now(): number {
    return this.#world.startAt + Math.floor(this.#world.time) + this.#skewMs
  }

  monotonic(): number {
    return this.#world.time
  }

  timer(ms: number, run: () => void): { cancel(): void } {
    const item = this.#world.schedule(this, ms, run)
    return { cancel: () => { this.#world.cancel(item) } }
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepWith(this, ms, signal)
  }

  random(): number {
    return this.#world.random()
  }

  uuid(): string {
    const hex = [...this.bytes(16)].map(byte => byte.toString(16).padStart(2, '0')).join('')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => Math.floor(this.#world.random() * 256))
  }

  async advance(by: Duration | number): Promise<void> {
    await this.#world.runUntil(this.#world.time + toMs(by))
  }

  async settle(): Promise<void> {
    await this.#world.runUntil(this.#world.time)
  }

  until(done: () => boolean, within: Duration | number): Promise<boolean> {
    return this.#world.runUntil(this.#world.time + toMs(within), done)
  }

  serve(origin: string, handler: Handler): void {
    this.#world.origins.set(new URL(origin).origin, handler)
  }

  unserve(origin: string): void {
    this.#world.origins.delete(new URL(origin).origin)
  }

  jump(ms: number): void {
    this.#skewMs += ms
  }

  async busy<T>(work: Promise<T>): Promise<T> {
    this.#world.busy += 1
    try {
      return await work
    } finally {
      this.#world.busy -= 1
    }
  }

  process(name?: string): SimulatedEnv {
    this.#world.processes += 1
    return new SimulatedProcess(this.#world, name ?? `process-${String(this.#world.processes)}`)
  }

  kill(): void {
    if (this.#state === 'dead') return
    this.#state = 'dead'
    this.#held = []
    for (const listener of this.#killListeners) listener()
  }

  pause(): void {
    if (this.#state === 'running') this.#state = 'paused'
  }

  resume(): void {
    if (this.#state !== 'paused') return
    this.#state = 'running'
    const held = this.#held
    this.#held = []
    for (const run of held) run()
  }

  onKill(listener: () => void): void {
    this.#killListeners.push(listener)
  }

  /** Runs what came due for this process, unless it is dead; holds it while it is paused. */
  fire(run: () => void): void {
    if (this.#state === 'running') run()
    else if (this.#state === 'paused') this.#held.push(run)
  }

  #call(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init)
    return new Promise<Response>((resolve, reject) => {
      const { signal } = request
      const onAbort = (): void => { this.fire(() => { reject(abortError(signal)) }) }
      if (signal.aborted) {
        onAbort()
        return
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#travel(request).then(
        response => { signal.removeEventListener('abort', onAbort); this.fire(() => { resolve(response) }) },
        (error: unknown) => { signal.removeEventListener('abort', onAbort); this.fire(() => { reject(asError(error)) }) },
      )
    })
  }

  /** The way there and back. The request goes on its way even when its sender dies meanwhile. */
  async #travel(request: Request): Promise<Response> {
    await this.hooks.before?.(request.url)
    if (!this.alive) return never()
    await this.#latency()
    const handler = this.#world.origins.get(new URL(request.url).origin)
    if (handler === undefined) throw new TypeError('fetch failed', { cause: Object.assign(new Error(`connect ECONNREFUSED ${request.url}`), { code: 'ECONNREFUSED' }) })
    const response = await handler(request)
    await this.#latency()
    await this.hooks.after?.(request.url)
    return response
  }

  #latency(): Promise<void> | undefined {
    const bounds = this.#world.latency
    if (bounds === undefined) return undefined
    const ms = bounds[0] + this.#world.random() * (bounds[1] - bounds[0])
    // On the wire, not in the process: it goes on when the sender is dead or paused.
    return new Promise(resolve => { this.#world.schedule(WIRE, ms, resolve) })
  }

  toString(): string {
    return this.#name
  }
}

const WIRE = new SimulatedProcess(new World({}), 'wire')

function never(): Promise<never> {
  return new Promise(() => undefined)
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

function abortError(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new DOMException('This operation was aborted', 'AbortError')
}

function toMs(by: Duration | number): number {
  return typeof by === 'number' ? by : durationMs(by, 'advance', { min: 0 })
}

/** One macrotask: every microtask that was pending, and those they started, have run. */
function drain(): Promise<void> {
  return new Promise(resolve => { setImmediate(resolve) })
}

function before(a: Scheduled, b: Scheduled): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}

function push(heap: Scheduled[], item: Scheduled): void {
  let index = heap.length
  heap.push(item)
  while (index > 0) {
    const parent = (index - 1) >> 1
    const above = heap[parent]
    if (above === undefined || !before(item, above)) break
    heap[index] = above
    index = parent
  }
  heap[index] = item
}

function pop(heap: Scheduled[]): void {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let index = 0
  for (;;) {
    const left = 2 * index + 1
    const a = heap[left]
    if (a === undefined) break
    const b = heap[left + 1]
    const child = b !== undefined && before(b, a) ? b : a
    if (!before(child, last)) break
    heap[index] = child
    index = child === a ? left : left + 1
  }
  heap[index] = last
}
