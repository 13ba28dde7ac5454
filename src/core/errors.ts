/**
 * The one error class, and how an error is looked at.
 *
 * A broken promise is thrown as a `HoldfastError`: a code from the catalogue (./error-catalogue.ts), what an operator
 * can do about it, names and ids in `context` (never payloads or secrets), and the original as `cause`. An expected
 * refusal is a value where the caller must decide (./outcome.ts).
 */
import { ERRORS, type ErrorCode, type FailureClass } from './error-catalogue.ts'

export { ERRORS, type ErrorCode, type FailureClass } from './error-catalogue.ts'

/** What may be said about an error beside its code. */
export interface HoldfastErrorOptions {
  /** One sentence: what was expected, what was got. */
  readonly message: string
  readonly cause?: unknown
  /** How long to wait before the same call can succeed. */
  readonly retryAfterMs?: number | undefined
  /** Names and ids only. */
  readonly context?: Readonly<Record<string, string | number | boolean | undefined>>
  /** Overrides the catalogue's class, where the origin knows better. */
  readonly failure?: FailureClass
  /** Refusals on hot paths build no stack trace. */
  readonly stackless?: boolean
}

/** Every error that Holdfast throws. `code` is stable, the message is not. */
export class HoldfastError extends Error {
  override readonly name: string = 'HoldfastError'
  readonly code: ErrorCode
  /** Whose fault it is: decides log level, alert and retry. */
  readonly failure: FailureClass
  /** May the same call succeed later, unchanged? */
  readonly retryable: boolean
  readonly retryAfterMs: number | undefined
  readonly context: Readonly<Record<string, string | number | boolean | undefined>>
  /** What a human can do. */
  readonly operator: string

  constructor(code: ErrorCode, options: HoldfastErrorOptions) {
    const limit = Error.stackTraceLimit
    if (options.stackless === true) Error.stackTraceLimit = 0
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause })
    Error.stackTraceLimit = limit
    const entry = ERRORS[code]
    this.code = code
    this.failure = options.failure ?? entry.failure
    this.retryable = entry.retryable
    this.retryAfterMs = options.retryAfterMs
    this.context = options.context ?? {}
    this.operator = entry.operator
  }

  /** Where this code is explained. */
  get docs(): string {
    return `docs/errors.md#${this.code.toLowerCase()}`
  }

  toJSON(): { readonly code: ErrorCode; readonly message: string; readonly operator: string; readonly retryable: boolean; readonly retryAfterMs?: number } {
    return {
      code: this.code,
      message: this.message,
      operator: this.operator,
      retryable: this.retryable,
      ...(this.retryAfterMs === undefined ? {} : { retryAfterMs: this.retryAfterMs }),
    }
  }
}

export function isHoldfastError(error: unknown): error is HoldfastError {
  return error instanceof HoldfastError
}

/** The message of whatever was thrown, never longer than 500 characters. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.length > 500 ? `${text.slice(0, 497)}...` : text
}

/** Something that our own code took for impossible. Always a defect: it names what was believed. */
export function invariant(condition: unknown, belief: string): asserts condition {
  if (condition === true) return
  throw new HoldfastError('HF_INVARIANT', { message: `this was believed to be always true: ${belief}` })
}
