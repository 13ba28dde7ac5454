/**
 * What a kill switch is: its options, its value as it is read, and how its environment names are formed.
 *
 * Reading is a property of an object in memory: it never waits, never throws, and costs nothing.
 */
import { checkName, HoldfastError, type Refusal } from '../../core/index.ts'

export interface FlagOptions {
  /** Its value where nobody says otherwise. Kill switches default to `true`. */
  readonly default: boolean
  /** One sentence: what is true while it is off. Shown wherever it is flipped, and in every refusal. */
  readonly whenOff: string
  /** Name of a flag that switches this one off too. */
  readonly parent?: string
  readonly runbook?: string
  /** Further environment names beside `FEATURE_<NAME>_ENABLED`, such as `FEATURE_USE_RETRY_LOGIC`. */
  readonly env?: readonly string[]
}

/** A declared kill switch. */
export interface Flag<Name extends string = string> {
  readonly kind: 'flag'
  readonly name: Name
  /** Effective now: itself and every parent. */
  readonly on: boolean
  /**
   * The same as a value that says why not, for code that has to answer somebody. `where` is what is skipped, for log and
   * coverage: `worker activation`, `handler pre-checkout`. Emits flag.skipped when it is off; never throws.
   */
  check(where?: string): { readonly ok: true } | Refusal
}

export type Flags<Names extends string> = { readonly [N in Names]: Flag<N> }

/** What an operator sees of one flag. */
export interface FlagStatus {
  readonly name: string
  readonly on: boolean
  /** Why it has this value: `default`, `pinned by FEATURE_X_ENABLED`, `cli:alice: panel is down`, `parent workers is off`. */
  readonly because: string
  readonly whenOff: string
  readonly pinned: boolean
  readonly parent?: string
  readonly runbook?: string
  readonly override?: { readonly on: boolean; readonly by: string; readonly reason: string; readonly at: number; readonly expiresAt?: number }
  /** How often it refused, since this process began. */
  readonly skips: number
}

/** The environment's word on one flag. */
export interface Pin {
  readonly on: boolean
  /** The variable that says so. */
  readonly by: string
}

const ENV_NAME = /^[A-Z][A-Z0-9_]*$/

/** @throws HF_OPTION_INVALID */
export function checkFlag(name: string, options: FlagOptions): void {
  checkName('flag', name)
  const refuse = (message: string): never => {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `flag ${name}: ${message}`, context: { flag: name } })
  }
  if (typeof options.default !== 'boolean') refuse(`expected default to be true or false, got ${JSON.stringify(options.default)}`)
  if (typeof options.whenOff !== 'string' || options.whenOff.trim() === '') refuse('expected whenOff to say in one sentence what is true while it is off')
  for (const alias of options.env ?? []) if (!ENV_NAME.test(alias)) refuse(`expected env names such as 'FEATURE_USE_RETRY_LOGIC', got ${JSON.stringify(alias)}`)
}

/** `vpnProvisioning` and `vpn-provisioning` are both `FEATURE_VPN_PROVISIONING_ENABLED`. */
export function environmentName(flag: string): string {
  const snake = flag
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1_$2')
    .replace(/[^a-zA-Z0-9]+/g, '_')
    .toUpperCase()
  return `FEATURE_${snake}_ENABLED`
}

const WORDS: Readonly<Record<string, boolean>> = { true: true, on: true, yes: true, 1: true, false: false, off: false, no: false, 0: false }

/**
 * What the environment says. Where two names disagree, off wins. An empty value says nothing.
 * @throws HF_CONFIG_INVALID for a value that is neither on nor off: a misspelt `flase` must not leave payments on.
 */
export function pinOf(name: string, options: FlagOptions, environment: Readonly<Record<string, string | undefined>>): Pin | undefined {
  let pin: Pin | undefined
  for (const variable of [environmentName(name), ...(options.env ?? [])]) {
    const text = environment[variable]?.trim().toLowerCase()
    if (text === undefined || text === '') continue
    const on = WORDS[text]
    if (on === undefined) {
      throw new HoldfastError('HF_CONFIG_INVALID', { message: `${variable}: expected true or false, got ${JSON.stringify(environment[variable])}`, context: { flag: name, variable } })
    }
    if (pin === undefined || !on) pin = { on, by: variable }
  }
  return pin
}
