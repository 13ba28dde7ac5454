/**
 * What may cross a crash, and how it is checked on the way in.
 *
 * Inputs, results and ticket arguments are JSON by type, and come back decoded on the first run too, so that a value
 * which would not survive the journal is found on the first call and not during a recovery.
 */
import { HoldfastError } from './errors.ts'

/** What may cross a crash: saga inputs and results, ticket arguments, once results. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined }

type Checked<Out> =
  | { readonly value: Out; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[] }

/** Any Standard Schema: zod, valibot, arktype, ... */
export interface Schema<In, Out = In> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => Checked<Out> | Promise<Checked<Out>>
    readonly types?: { readonly input: In; readonly output: Out } | undefined
  }
}

/**
 * The value as the schema decodes it.
 * @throws HF_INPUT_INVALID with every issue in one message.
 */
export async function checkInput<In, Out>(schema: Schema<In, Out>, value: unknown, where: string): Promise<Out> {
  const checked = await schema['~standard'].validate(value)
  if (checked.issues === undefined) return checked.value
  const issues = checked.issues.map(issue => {
    const path = (issue.path ?? []).map(part => String(typeof part === 'object' && part !== null && 'key' in part ? part.key : part)).join('.')
    return path === '' ? issue.message : `${path}: ${issue.message}`
  })
  throw new HoldfastError('HF_INPUT_INVALID', { message: `${where}: ${issues.join('; ')}`, context: { where } })
}

/**
 * The text that is journalled. `undefined` (a step that returns nothing) is `null`.
 * @throws HF_RESULT_NOT_JSON for a Date, a class instance, a function, NaN or a cycle.
 */
export function encodeJson(value: unknown, where: string): string {
  checkJson(value, where, 0)
  return JSON.stringify(value ?? null)
}

export function decodeJson<T>(text: string): T {
  return JSON.parse(text) as T
}

/** The same JSON always has the same text: keys sorted at every depth. For fingerprints and for comparing. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined).sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
  }
  return JSON.stringify(value ?? null)
}

const DEPTH_MAX = 64

function checkJson(value: unknown, where: string, depth: number): void {
  const refuse = (what: string): never => {
    throw new HoldfastError('HF_RESULT_NOT_JSON', { message: `${where}: ${what} does not survive a restart; record plain JSON`, context: { where } })
  }
  if (depth > DEPTH_MAX) refuse(`a value nested deeper than ${String(DEPTH_MAX)} levels`)
  if (value === null || value === undefined || typeof value === 'string' || typeof value === 'boolean') return
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) refuse(String(value))
    return
  }
  if (Array.isArray(value)) {
    for (const item of value) checkJson(item, where, depth + 1)
    return
  }
  if (typeof value === 'object') {
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) refuse(`an instance of ${(value).constructor.name}`)
    for (const item of Object.values(value)) checkJson(item, where, depth + 1)
    return
  }
  refuse(`a ${typeof value}`)
}
