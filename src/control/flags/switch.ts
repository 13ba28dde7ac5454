/**
 * One switch, and the rule by which its value is found.
 *
 * Off beats on: a pin `false` of the environment is absolute; of the operator's overrides (the store's, the local
 * file's) one that says off wins; then one that says on; then a pin `true`; then the default. A switch is on only when
 * every parent is on too.
 */
import type { EventBus, Refusal } from '../../core/index.ts'
import type { Flag, FlagOptions, FlagStatus, Pin } from './flag.ts'

/** An operator's word, as this instance knows it. */
export interface Override {
  readonly on: boolean
  readonly actor: string
  readonly reason: string
  /** Wall clock or the database's, milliseconds: for people. */
  readonly at: number
  /** Wall clock: for people. */
  readonly expiresAt?: number
  /** Monotonic: what decides here. */
  readonly endsAt?: number
}

/** A value and the words for it. */
export interface Decision {
  readonly on: boolean
  readonly because: string
}

const ALLOWED = Object.freeze({ ok: true })

export class Switch<Name extends string = string> implements Flag<Name> {
  readonly kind = 'flag'
  readonly name: Name
  readonly options: FlagOptions
  readonly pin: Pin | undefined
  on = true
  because = 'default'
  /** From the store, or a local kill that the store does not know yet. */
  stored: Override | undefined
  file: Override | undefined
  skips = 0
  readonly #events: EventBus

  constructor(name: Name, options: FlagOptions, pin: Pin | undefined, events: EventBus) {
    this.name = name
    this.options = options
    this.pin = pin
    this.#events = events
  }

  check(where: string = 'code'): { readonly ok: true } | Refusal {
    if (this.on) return ALLOWED
    this.skips += 1
    const message = `${this.name} is switched off (${this.because}): ${this.options.whenOff}`
    this.#events.emit('flag.skipped', { flag: this.name, where, message })
    return { ok: false, reason: 'switched-off', message }
  }

  decide(monotonic: number, parent: Decision | undefined): Decision {
    const own = this.#own(monotonic)
    if (own.on && parent?.on === false) return { on: false, because: `parent ${String(this.options.parent)} is off` }
    return own
  }

  status(monotonic: number): FlagStatus {
    const override = this.#overrides(monotonic).sort((a, b) => Number(a.on) - Number(b.on))[0]
    return {
      name: this.name, on: this.on, because: this.because, whenOff: this.options.whenOff, pinned: this.pin !== undefined, skips: this.skips,
      ...(this.options.parent === undefined ? {} : { parent: this.options.parent }),
      ...(this.options.runbook === undefined ? {} : { runbook: this.options.runbook }),
      ...(override === undefined ? {} : {
        override: {
          on: override.on, by: override.actor, reason: override.reason, at: override.at,
          ...(override.expiresAt === undefined ? {} : { expiresAt: override.expiresAt }),
        },
      }),
    }
  }

  #own(monotonic: number): Decision {
    const pinned = this.pin === undefined ? undefined : { on: this.pin.on, because: `pinned by ${this.pin.by}` }
    if (pinned?.on === false) return pinned
    const overrides = this.#overrides(monotonic)
    const override = overrides.find(candidate => !candidate.on) ?? overrides[0]
    if (override !== undefined) return { on: override.on, because: `${override.actor}: ${override.reason}` }
    return pinned ?? { on: this.options.default, because: 'default' }
  }

  #overrides(monotonic: number): Override[] {
    return [this.stored, this.file].filter(override => override !== undefined).filter(override => override.endsAt === undefined || override.endsAt > monotonic)
  }
}
