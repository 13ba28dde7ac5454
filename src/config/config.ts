/**
 * Settings as a whole: read once, refused all at once, shown without their secrets.
 *
 * Somebody who starts the service for the first time sees every missing setting in one message, each with how to get
 * it; a misspelt name is pointed out and not silently ignored.
 */
import { HoldfastError, messageOf } from '../core/index.ts'
import type { Setting } from './settings.ts'

export type Spec = Readonly<Record<string, Setting<unknown>>>
export type Values<S extends Spec> = { readonly [Name in keyof S]: S[Name] extends Setting<infer Value> ? Value : never }

export interface ConfigOptions {
  /** Names that begin so and are not declared are suspected of being misspelt, such as `BOT_`. */
  readonly prefixes?: readonly string[]
  /** Further rules over all values: each returned sentence is a problem. Only asked when every single value is fine. */
  readonly check?: readonly ((values: Readonly<Record<string, unknown>>) => string | undefined)[]
}

/** Where one value came from; secrets are masked. */
export interface Described {
  readonly name: string
  readonly source: 'environment' | 'default' | 'absent'
  readonly shown: string
}

export interface Config<S extends Spec> {
  readonly values: Values<S>
  /** The texts of all secrets, for the redaction of logs. */
  readonly secrets: readonly string[]
  describe(): readonly Described[]
}

/**
 * Reads and checks `spec` against `environment`.
 * @throws HF_CONFIG_INVALID with one line per problem: name, what is wrong, remedy.
 */
export function config<const S extends Spec>(spec: S, environment: Readonly<Record<string, string | undefined>>, options: ConfigOptions = {}): Config<S> {
  const problems: string[] = []
  const values: Record<string, unknown> = {}
  const secrets: string[] = []
  const described: Described[] = []
  for (const [name, setting] of Object.entries(spec)) {
    const text = environment[name]?.trim() ?? ''
    const remedy = setting.remedy === undefined ? '' : ` (${setting.remedy})`
    if (text === '') {
      if (setting.required) problems.push(`${name} is missing${remedy}`)
      values[name] = setting.fallback
      described.push({ name, source: setting.fallback === undefined ? 'absent' : 'default', shown: setting.fallback === undefined ? '' : JSON.stringify(setting.fallback) })
      continue
    }
    if (setting.isSecret) secrets.push(text)
    try {
      values[name] = setting.parse(text, name)
      described.push({ name, source: 'environment', shown: setting.isSecret ? '***' : text })
    } catch (error) {
      problems.push(`${name}: ${messageOf(error)}${remedy}`)
    }
  }
  problems.push(...misspelt(spec, environment, options.prefixes ?? []))
  if (problems.length === 0) {
    for (const rule of options.check ?? []) {
      const problem = rule(values)
      if (problem !== undefined) problems.push(problem)
    }
  }
  if (problems.length > 0) {
    const count = problems.length === 1 ? 'One setting is' : `${String(problems.length)} settings are`
    throw new HoldfastError('HF_CONFIG_INVALID', { message: `${count} not right:\n${problems.map(problem => `  - ${problem}`).join('\n')}` })
  }
  return { values: values as Values<S>, secrets, describe: () => described }
}

/** Names close to a declared one that nobody declared: `BOT_TOKN`. */
function misspelt(spec: Spec, environment: Readonly<Record<string, string | undefined>>, prefixes: readonly string[]): string[] {
  const problems: string[] = []
  for (const name of Object.keys(environment)) {
    if (name in spec || !prefixes.some(prefix => name.startsWith(prefix))) continue
    const near = Object.keys(spec).map(declared => ({ declared, distance: editDistance(name, declared) })).sort((a, b) => a.distance - b.distance)[0]
    if (near !== undefined && near.distance <= 2) problems.push(`${name} is not a setting: did you mean ${near.declared}?`)
  }
  return problems
}

/** Levenshtein distance, for names of a few dozen characters. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const substitute = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substitute, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
