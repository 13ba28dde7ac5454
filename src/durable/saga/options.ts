/**
 * A saga's options, checked once and with their defaults; and what a declared step comes to.
 */
import { durationMs, HoldfastError, type Duration, type Json } from '../../core/index.ts'
import type { Begins } from './port.ts'
import { SAGA_DEFAULTS, type ConfirmationOptions, type LocalStep, type OutsideStep, type SagaOptions, type Step } from './types.ts'

type Runner<I, R, Tx> = (step: Step<Tx, string>, input: I) => Promise<R>

export interface Resolved {
  readonly attempts: number
  readonly giveUpAfterMs: number
  readonly undoAttempts: number
  readonly backoffMs: number
  readonly backoffMaxMs: number
  readonly keepForMs: number
  readonly leaseMs: number
  readonly deadlineMs: number | undefined
  readonly stepTimeoutMs: number
  readonly ticketForMs: number
  readonly crashes: number
  readonly versions: readonly number[]
  /** A ticket port was given. */
  readonly canAsk: boolean
  /** Of a step that names one itself. @throws HF_OPTION_INVALID, at the step: its options are made while the saga runs */
  timeoutMs(step: AnyStep<never>): number
  waitMs(confirmation: ConfirmationOptions): number
  runOf<In, I, R extends Json | void, Tx>(version: number, options: SagaOptions<In, I, R, Tx, string>): Runner<I, R, Tx>
}

/** A step as it was declared, and what its declaration says. */
export type AnyStep<Tx> = { readonly pivot: boolean; readonly irreversible: ConfirmationOptions | undefined } & (
  | { readonly kind: 'outside'; readonly step: OutsideStep<Json, string> }
  | { readonly kind: 'local'; readonly step: LocalStep<Json, Tx> })

export function anyStep<Tx>(step: OutsideStep<Json, string> | LocalStep<Json, Tx>): AnyStep<Tx> {
  const { irreversible } = step
  const pivot = step.pivot === true || irreversible !== undefined
  return 'write' in step ? { kind: 'local', step, pivot, irreversible } : { kind: 'outside', step, pivot, irreversible }
}

/** As it is kept in the journal and compared at replay. */
export function effectOf(step: AnyStep<never>): string {
  const effect = step.kind === 'local' ? 'local' : step.step.effect
  return step.irreversible !== undefined ? `${effect} irreversible` : step.pivot ? `${effect} pivot` : effect
}

export function beginsOf(name: string, { pivot, irreversible }: AnyStep<never>): Begins {
  if (!pivot) return { kind: 'step' }
  return { kind: irreversible === undefined ? 'pivot' : 'confirmed', step: name }
}

/** @throws HF_OPTION_INVALID */
export function resolve<In, I, R extends Json | void, Tx, Kinds extends string>(name: string, options: SagaOptions<In, I, R, Tx, Kinds>, canAsk: boolean): Resolved {
  const ms = (option: 'stepTimeout' | 'ticketFor' | 'lease' | 'giveUpAfter' | 'keepFor' | 'backoff', min?: number): number => durationMs(options[option] ?? SAGA_DEFAULTS[option], `saga ${name}: ${option}`, min === undefined ? {} : { min })
  const backoffMs = ms('backoff')
  const ticketForMs = ms('ticketFor', 10_000)
  if (ticketForMs > 3_600_000) throw invalid(`saga ${name}: ticketFor`, '1h at most', options.ticketFor)
  whole(`saga ${name}: version`, options.version, 1_000_000)
  const older = Object.keys(options.olderVersions ?? {}).map(Number)
  for (const version of older) if (!Number.isInteger(version) || version < 1 || version >= options.version) throw invalid(`saga ${name}: olderVersions`, `whole numbers from 1 below ${String(options.version)}`, version)
  const stepTimeoutMs = ms('stepTimeout', 100)
  return {
    attempts: whole(`saga ${name}: attempts`, options.attempts ?? SAGA_DEFAULTS.attempts, 1_000),
    undoAttempts: whole(`saga ${name}: undoAttempts`, options.undoAttempts ?? SAGA_DEFAULTS.undoAttempts, 1_000),
    crashes: whole(`saga ${name}: crashes`, options.crashes ?? SAGA_DEFAULTS.crashes, 1_000),
    giveUpAfterMs: ms('giveUpAfter', 0),
    keepForMs: ms('keepFor', 3_600_000),
    leaseMs: ms('lease', 1_000),
    deadlineMs: options.deadline === undefined ? undefined : durationMs(options.deadline, `saga ${name}: deadline`, { min: 1_000 }),
    stepTimeoutMs, ticketForMs, canAsk, backoffMs,
    backoffMaxMs: durationMs(options.backoffMax ?? SAGA_DEFAULTS.backoffMax, `saga ${name}: backoffMax`, { min: backoffMs }),
    versions: [options.version, ...older],
    timeoutMs: step => step.kind === 'local' || step.step.timeout === undefined ? stepTimeoutMs : stepTimeout(name, step.step.timeout),
    waitMs: ({ waitFor }) => durationMs(waitFor ?? SAGA_DEFAULTS.waitFor, `saga ${name}: waitFor`, { min: 60_000 }),
    runOf: (version, given) => version === given.version ? given.run : given.olderVersions?.[version] ?? given.run,
  }
}

/** Parsed at each step, thousands of times the same few texts. */
const PARSED = new Map<Duration, number>()
const PARSED_MAX = 100

function stepTimeout(name: string, timeout: Duration): number {
  const known = PARSED.get(timeout)
  if (known !== undefined) return known
  const ms = durationMs(timeout, `saga ${name}: timeout of a step`, { min: 100 })
  if (PARSED.size < PARSED_MAX) PARSED.set(timeout, ms)
  return ms
}

function whole(where: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw invalid(where, `a whole number from 1 to ${String(max)}`, value)
}

function invalid(where: string, expected: string, got: unknown): HoldfastError {
  return new HoldfastError('HF_OPTION_INVALID', { message: `${where}: expected ${expected}, got ${String(got)}`, context: { option: where } })
}
