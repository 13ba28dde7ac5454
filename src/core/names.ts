/**
 * Names of definitions: the same word in code, log, metric, console and runbook.
 */
import { HoldfastError } from './errors.ts'

const NAME = /^[a-zA-Z][a-zA-Z0-9]*(?:[-_.:][a-zA-Z0-9]+)*$/

/**
 * Refuses a name that cannot be a metric label, a URL part and a shell word alike.
 * @throws HF_OPTION_INVALID
 */
export function checkName(kind: string, name: string): void {
  if (NAME.test(name) && name.length <= 80) return
  throw new HoldfastError('HF_OPTION_INVALID', {
    message: `${kind}: expected a name of letters, digits and single dashes such as 'vpn-panel' (80 at most), got ${JSON.stringify(name)}`,
    context: { kind },
  })
}

/** The names of one kind within one service. */
export class Registry<Item> {
  readonly #kind: string
  readonly #items = new Map<string, Item>()

  constructor(kind: string) {
    this.#kind = kind
  }

  /** @throws HF_NAME_TAKEN, HF_OPTION_INVALID */
  add(name: string, item: Item): Item {
    checkName(this.#kind, name)
    if (this.#items.has(name)) {
      throw new HoldfastError('HF_NAME_TAKEN', { message: `${this.#kind} ${name} is already defined`, context: { kind: this.#kind, name } })
    }
    this.#items.set(name, item)
    return item
  }

  get(name: string): Item | undefined {
    return this.#items.get(name)
  }

  /** @throws HF_UNKNOWN_NAME, with the names that exist. */
  need(name: string): Item {
    const item = this.#items.get(name)
    if (item !== undefined) return item
    const known = [...this.#items.keys()].join(', ')
    throw new HoldfastError('HF_UNKNOWN_NAME', {
      message: `no ${this.#kind} is called ${JSON.stringify(name)}; there is ${known === '' ? 'none' : known}`,
      context: { kind: this.#kind, name },
    })
  }

  names(): readonly string[] {
    return [...this.#items.keys()]
  }

  all(): readonly Item[] {
    return [...this.#items.values()]
  }
}
