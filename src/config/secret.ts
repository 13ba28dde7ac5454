/**
 * A value that does not print: not in a log line, not in JSON, not in an inspected object, not in a template string.
 */
export class Secret {
  readonly #name: string
  readonly #value: string

  constructor(name: string, value: string) {
    this.#name = name
    this.#value = value
    // What console.log and a debugger show; private fields are shown by neither.
    Object.defineProperty(this, Symbol.for('nodejs.util.inspect.custom'), { value: () => this.toString() })
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
}
