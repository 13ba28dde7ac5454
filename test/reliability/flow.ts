/**
 * What a flow is: one feature in use, written once and run on every tier (simulated processes on the memory store and on
 * PGlite, real processes that are killed on PostgreSQL and on the embedded store).
 *
 * A flow is neutral to the dialect: it declares features over the kit that it is handed, writes business rows through
 * `write`, reaches the outside through `call`, and judges at the end by the features' own ports. Its `id` is part of
 * every key, so that many iterations share one database.
 */
import type { Env, Json, Schema } from '../../src/core/index.ts'
import type { DurableKit } from '../../src/durable/index.ts'
import type { OutsideOptions, OutsideWorld } from '../../src/testing/index.ts'

/** One process (of several, and of several boots) while it lives. */
export interface FlowProcess<Tx> {
  readonly env: Env
  readonly kit: DurableKit<Tx>
  /** Of this iteration. */
  readonly id: string
  /** Aborts when the iteration is over and the process goes on to another. */
  readonly signal: AbortSignal
  /** A business row of this iteration, in the caller's transaction. */
  write(tx: Tx, text: string): Promise<void>
  /** An outside call: lives elsewhere, survives the process, has a crash point on either side. */
  call(name: string, request: Json): Promise<Json>
  /** Something that its judge should hear of: an answer that a caller got. */
  tell(fact: string): void
  /** An interesting state was reached; a run in which a wanted one is not is no proof. */
  reach(state: string): void
  /** This mechanism is switched off for a control. */
  without(mechanism: FlowMechanism): boolean
}

/** Mechanisms that live in how a feature is used; the others are taken out of the features themselves (./knock-outs). */
export type FlowMechanism = 'provider keys' | 'guard' | 'one transaction' | 'undo before its record' | 'verify' | 'sweep' | 'once-key' | 'inbox id' | 'leadership' | 'track' | 'confirmation' | 'cancellation' | 'timeout'

/** What judges see, outside of every process. */
export interface FlowView<Tx> {
  readonly id: string
  readonly dialect: 'sql' | 'memory'
  /** Reads committed state. */
  read<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  /** Business rows of this iteration, in the order of their commits. */
  written(): Promise<readonly string[]>
  /** What processes told. */
  readonly told: readonly string[]
  readonly outside: Outside
}

/** The other side of one iteration: plain and synchronous, so that it can live in a simulation or in a parent process. */
export interface Outside {
  readonly world: OutsideWorld
  /** Answers a call. @throws OutsideError */
  handle(name: string, request: Json): Json
}

export interface Flow {
  readonly name: string
  /** By itself the other side has a bad day: it refuses or breaks at some requests, so that those paths are taken without a fault of ours. */
  outside(id: string, options?: OutsideOptions): Outside
  /** A program's main(): declares, starts loops. Called at each boot of each process. */
  main<Tx>(process: FlowProcess<Tx>): void | Promise<void>
  /** Everything that should happen has happened. */
  over<Tx>(view: FlowView<Tx>): Promise<boolean>
  /** What must hold at every moment: asked after each outside call and each commit where a tier can, else in the end. */
  holds?<Tx>(view: FlowView<Tx>): Promise<readonly string[]>
  /** What must hold in the end; violations in words. */
  check<Tx>(view: FlowView<Tx>): Promise<readonly string[]>
}

/** A lease in flows: short, so that taking over is common. */
export const LEASE_MS = 10_000
export const LEASE = '10s'

/** Again and again while the process lives; an error is what its caller would see, and the next round is its retry. */
export function loop<Tx>({ env, signal }: Pick<FlowProcess<Tx>, 'env' | 'signal'>, everyMs: number, work: () => Promise<unknown>): void {
  const forever = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        await work()
      } catch {
        // A store that is away or a call that failed: the caller comes again.
      }
      await env.sleep(everyMs, signal)
    }
  }
  void forever()
}

export interface Order {
  readonly id: string
  readonly amount: number
}

/** The input of flows' features; they are about what happens and not about parsing. */
export function order<In = Order>(): Schema<In, Order> {
  return { '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as Order }) } }
}

export function effects(view: Pick<FlowView<unknown>, 'outside'>, what: string, wanted: number): readonly string[] {
  const got = view.outside.world.count(what)
  return got === wanted ? [] : [`${what}: ${String(got)} effects, wanted ${String(wanted)}`]
}

export async function rows<Tx>(view: FlowView<Tx>, text: string, wanted: number): Promise<readonly string[]> {
  const got = (await view.written()).filter(row => row === text).length
  return got === wanted ? [] : [`${text}: ${String(got)} rows, wanted ${String(wanted)}`]
}

/** The field of a request that is a JSON object. */
export function field(request: Json, name: string): string {
  const value = typeof request === 'object' && request !== null && !Array.isArray(request) ? (request as Readonly<Record<string, Json>>)[name] : undefined
  return typeof value === 'string' ? value : ''
}

/** An answer of the outside as text. */
export function text(answer: Json): string {
  return typeof answer === 'string' ? answer : JSON.stringify(answer)
}
