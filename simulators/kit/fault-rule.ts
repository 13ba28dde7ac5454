/**
 * Faults as data: which calls, and what goes wrong with them. The same JSON in a test, in a drill and in a `curl`.
 *
 * A rule is checked when it is added, so a misspelt kind is refused at once and never silently does nothing.
 */
import { HoldfastError } from 'holdfast/core'

/** What goes wrong. Times are milliseconds unless the name says seconds. */
export type Fault =
  /** Slow: before the effect (default) or between effect and reply. The effect happens even when the caller has gone: servers do not notice. */
  | { readonly kind: 'delay'; readonly ms: number; readonly jitterMs?: number; readonly when?: 'before' | 'after' }
  /** No effect, no answer, until the caller aborts. */
  | { readonly kind: 'hang' }
  /** No effect, connection closed. `ECONNREFUSED` tells the caller that nothing was sent (in process only; over HTTP it is a reset). */
  | { readonly kind: 'drop-before'; readonly code?: 'ECONNRESET' | 'ECONNREFUSED' }
  /** Effect done, connection closed before the reply: where doubles come from. */
  | { readonly kind: 'apply-then-drop' }
  /** Effect done, the reply never comes. */
  | { readonly kind: 'apply-then-hang' }
  /** This status; without `body` in the shape of the simulated system. No effect unless `applied`. */
  | { readonly kind: 'status'; readonly status: number; readonly body?: unknown; readonly retryAfterS?: number; readonly applied?: boolean }
  /** Effect done, the reply is not JSON. */
  | { readonly kind: 'malformed' }
  /** Effect done, the reply has no body. */
  | { readonly kind: 'empty' }
  /** Effect done, the connection breaks in the middle of the reply. */
  | { readonly kind: 'truncated' }
  /** The request arrives twice; the caller sees the first reply. */
  | { readonly kind: 'duplicate' }
  /** Is overtaken by `after` (1) later calls, and waits for them at most `withinMs` (1000). */
  | { readonly kind: 'reorder'; readonly after?: number; readonly withinMs?: number }
  /** The caller is dropped (default) or left hanging, and the effect happens `ms` later. */
  | { readonly kind: 'late'; readonly ms: number; readonly caller?: 'drop' | 'hang' }
  /** Down for `downMs` (no effect, connection closed), up for `upMs`, and so on, from when the rule was added. */
  | { readonly kind: 'flapping'; readonly upMs: number; readonly downMs: number }
  /** 429 in the shape of the simulated system. No effect. */
  | { readonly kind: 'rate-limit'; readonly retryAfterS: number }

export type FaultKind = Fault['kind']

/** Which calls. Everything that is given must hold; nothing given means every call. */
export interface FaultMatch {
  /** Names, with `*` for any rest: `sendMessage`, `send*`, `webhook:pre_checkout_query`. */
  readonly operation?: string | readonly string[]
  /** HTTP method. */
  readonly method?: string
  /** Somewhere in the JSON of the arguments. */
  readonly contains?: string
  /** Only these of the calls that match so far; 1 is the first. */
  readonly nth?: number | readonly number[]
  /** At most so many times. */
  readonly times?: number
  /** 0 to 1, decided by the seed. */
  readonly probability?: number
  /** The rule ends so long after it was added. */
  readonly forMs?: number
}

export interface FaultRule {
  readonly id?: string
  readonly match?: FaultMatch
  readonly fault: Fault
}

const count = (min: number, max = Number.MAX_SAFE_INTEGER) => (value: unknown): string | undefined =>
  typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max ? undefined : `a whole number from ${String(min)}${max < Number.MAX_SAFE_INTEGER ? ` to ${String(max)}` : ''}`
const oneOf = (...names: readonly string[]) => (value: unknown): string | undefined =>
  typeof value === 'string' && names.includes(value) ? undefined : names.map(name => JSON.stringify(name)).join(' or ')
const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? undefined : 'a text')
const listOr = (check: Check) => (value: unknown): string | undefined => {
  if (!Array.isArray(value)) return check(value)
  return value.length > 0 && value.every(item => check(item) === undefined) ? undefined : `a list with at least one entry, each ${check(undefined) ?? ''}`
}
type Check = (value: unknown) => string | undefined

const ms = count(0, 86_400_000)
const anything: Check = () => undefined
const flag: Check = value => (typeof value === 'boolean' ? undefined : 'true or false')
const share: Check = value => (typeof value === 'number' && value >= 0 && value <= 1 ? undefined : 'a number from 0 to 1')

const MATCH: Readonly<Record<keyof FaultMatch, Check>> = {
  operation: listOr(text), method: text, contains: text, nth: listOr(count(1)), times: count(1), probability: share, forMs: count(1),
}

const KINDS: Readonly<Record<FaultKind, { readonly needs: Readonly<Record<string, Check>>; readonly takes: Readonly<Record<string, Check>> }>> = {
  'delay': { needs: { ms }, takes: { jitterMs: ms, when: oneOf('before', 'after') } },
  'hang': { needs: {}, takes: {} },
  'drop-before': { needs: {}, takes: { code: oneOf('ECONNRESET', 'ECONNREFUSED') } },
  'apply-then-drop': { needs: {}, takes: {} },
  'apply-then-hang': { needs: {}, takes: {} },
  'status': { needs: { status: count(200, 599) }, takes: { body: anything, retryAfterS: count(0), applied: flag } },
  'malformed': { needs: {}, takes: {} },
  'empty': { needs: {}, takes: {} },
  'truncated': { needs: {}, takes: {} },
  'duplicate': { needs: {}, takes: {} },
  'reorder': { needs: {}, takes: { after: count(1), withinMs: ms } },
  'late': { needs: { ms }, takes: { caller: oneOf('drop', 'hang') } },
  'flapping': { needs: { upMs: count(1), downMs: count(1) }, takes: {} },
  'rate-limit': { needs: { retryAfterS: count(0) }, takes: {} },
}

export const FAULT_KINDS = Object.freeze(Object.keys(KINDS)) as readonly FaultKind[]

/**
 * The rule that unknown JSON describes.
 * @throws HF_OPTION_INVALID naming the field, what was expected and what was got.
 */
export function parseFaultRule(value: unknown): FaultRule {
  const rule = record(value, 'fault rule')
  only(rule, 'fault rule', ['id', 'match', 'fault'])
  if (rule['id'] !== undefined) check(text, rule['id'], 'fault rule: id')
  const fault = record(rule['fault'], 'fault rule: fault')
  const shape = KINDS[fault['kind'] as FaultKind] as (typeof KINDS)[FaultKind] | undefined
  if (shape === undefined) refuse(`fault rule: fault.kind: expected one of ${FAULT_KINDS.join(', ')}, got ${JSON.stringify(fault['kind'])}`)
  only(fault, `fault ${String(fault['kind'])}`, ['kind', ...Object.keys(shape.needs), ...Object.keys(shape.takes)])
  for (const [name, test] of Object.entries(shape.needs)) check(test, fault[name], `fault ${String(fault['kind'])}: ${name}`)
  for (const [name, test] of Object.entries(shape.takes)) if (fault[name] !== undefined) check(test, fault[name], `fault ${String(fault['kind'])}: ${name}`)
  if (rule['match'] !== undefined) {
    const match = record(rule['match'], 'fault rule: match')
    only(match, 'fault rule: match', Object.keys(MATCH))
    for (const [name, test] of Object.entries(MATCH)) if (match[name] !== undefined) check(test, match[name], `fault rule: match.${name}`)
  }
  return value as FaultRule
}

function record(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`${where}: expected an object, got ${JSON.stringify(value)}`)
  return value as Readonly<Record<string, unknown>>
}

function only(value: Readonly<Record<string, unknown>>, where: string, names: readonly string[]): void {
  const strange = Object.keys(value).find(name => !names.includes(name))
  if (strange !== undefined) refuse(`${where}: expected only ${names.join(', ')}, got ${JSON.stringify(strange)}`)
}

function check(test: Check, value: unknown, where: string): void {
  const expected = test(value)
  if (expected !== undefined) refuse(`${where}: expected ${expected}, got ${JSON.stringify(value)}`)
}

function refuse(message: string): never {
  throw new HoldfastError('HF_OPTION_INVALID', { message })
}
