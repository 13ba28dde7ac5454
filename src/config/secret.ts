/**
 * A value that does not print: not in a log line, not in JSON, not in an inspected object, not in a template string.
 */
import { inspect } from 'node:util'

export class Secret {
  readonly #name: string
  readonly #value: string

  constructor(name: string, value: string) {
    this.#name = name
    this.#value = value
  }

  /** The value itself. Call it where it is used, never to keep it. */
  reveal(): string {
    return this.#value
  }

  toString(): string {
    return `[secret ${this.#name}]`
  }

  toJSON(): string {
    return this.toString()
  }

  [inspect.custom](): string {
    return this.toString()
  }
}
