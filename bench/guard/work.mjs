/**
 * The work that every subject guards, and the numbers that all of them are given: the same for all.
 */

/** Success costs nothing itself, so that what is measured is the guarding. */
export const ANSWER = 42
export const answer = async () => ANSWER
/** The same for work that takes the signal it is given, as every `fetch` does. */
export const answerWithSignal = async ({ signal }) => (signal.aborted ? 0 : ANSWER)

/** Transient for everyone. Made once, because making errors is not what is measured. */
export const FAILURE = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
export const fail = async () => { throw FAILURE }

/** What a subject answers when it refuses without throwing and leaves the answer to us. */
export const REFUSAL = Object.freeze({ refused: true })

export const RULES = Object.freeze({
  deadlineMs: 10_000,
  attempts: 3,
  firstWaitMs: 100,
  failures: 5,
  openForMs: 60_000,
  concurrency: 20,
  timeoutMs: 3_000,
  /** Of the breaker with a time window: it opens at half of the calls. */
  windowMs: 10_000,
  failureShare: 0.5,
})
export const CALLS_IN_WINDOW = 20_000
