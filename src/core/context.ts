/**
 * What travels with a piece of work through every await: its correlation id, and whether a transaction is open.
 *
 * Entered once per handler, iteration or saga, never on the success path of a guarded call.
 */
import { AsyncLocalStorage } from 'node:async_hooks'

export interface Context {
  /** Same id in log, timeline, audit, and the code a customer is shown. */
  readonly correlationId?: string | undefined
  /** `handler pre-checkout`, `worker activation`, `saga provision`. */
  readonly component?: string | undefined
  /** Name of the transaction that is open, when one is. Outside calls are refused inside (HF_CALL_IN_TX). */
  readonly transaction?: string | undefined
  /** Identity of the open transaction's database, so that a nested store call is recognised. */
  readonly transactionOwner?: object | undefined
  /** Attempts that the layers above may already multiply by, for the nested-retry warning. */
  readonly attempts?: number | undefined
  /** The nearest layer that repeats, for the same warning. */
  readonly repeatedBy?: string | undefined
}

const storage = new AsyncLocalStorage<Context>()
const NONE: Context = Object.freeze({})

export function currentContext(): Context {
  return storage.getStore() ?? NONE
}

/** Runs `work` with the current context changed by `change`. */
export function withContext<T>(change: Context, work: () => T): T {
  return storage.run({ ...currentContext(), ...change }, work)
}
