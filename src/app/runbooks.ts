/**
 * The runbooks of one service, and who names them: a name that leads nowhere is found at the start, not at 3 a.m.
 *
 * Without any given runbooks nothing is checked: then names are labels for a place outside the program.
 */
import { HoldfastError } from '../core/index.ts'
import type { Runbook } from '../observe/index.ts'

/** A runbook with the name under which definitions, alerts and work items point to it. */
export interface NamedRunbook extends Runbook {
  readonly id: string
}

export class Runbooks {
  readonly #given: ReadonlyMap<string, NamedRunbook> | undefined
  #named: { readonly what: string; readonly runbook: string }[] = []
  #checked = false

  constructor(given: Readonly<Record<string, Runbook>> | undefined) {
    this.#given = given === undefined ? undefined : new Map(Object.entries(given).map(([id, runbook]) => [id, { id, ...runbook }]))
  }

  get(id: string): NamedRunbook | undefined {
    return this.#given?.get(id)
  }

  all(): readonly NamedRunbook[] {
    return [...(this.#given?.values() ?? [])]
  }

  /** A definition (`worker activation`) names one. After the start it is refused at once. @throws HF_OPTION_INVALID */
  named(what: string, runbook: string | undefined): void {
    if (runbook === undefined || this.#given === undefined || this.#given.has(runbook)) return
    this.#named.push({ what, runbook })
    if (this.#checked) this.#refuse([{ what, runbook }])
  }

  /** @throws HF_OPTION_INVALID with every name that leads nowhere */
  check(): void {
    this.#checked = true
    if (this.#named.length > 0) this.#refuse(this.#named)
  }

  #refuse(missing: readonly { readonly what: string; readonly runbook: string }[]): never {
    const list = missing.map(({ what, runbook }) => `${what} names ${JSON.stringify(runbook)}`).join('; ')
    const known = [...(this.#given?.keys() ?? [])].join(', ')
    throw new HoldfastError('HF_OPTION_INVALID', { message: `expected runbooks that exist, got names that lead nowhere: ${list}; there is ${known === '' ? 'none' : known}`, context: { option: 'runbooks' } })
  }
}
