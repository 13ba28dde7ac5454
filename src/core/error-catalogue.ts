/**
 * Every error code, its class, whether the same call may succeed later, and what an operator can do.
 *
 * docs/errors.md says the same at length; test/docs.test.ts holds the two together both ways.
 */

/** Whose fault a failure is. Decides log level, alert and retry (observe/escalation.ts). */
export type FailureClass = 'dependency_error' | 'infra_error' | 'domain_error' | 'user_error' | 'defect'

interface Entry {
  readonly failure: FailureClass
  readonly retryable: boolean
  readonly operator: string
}

const CATALOGUE = {
  // definitions and lifecycle
  HF_OPTION_INVALID: { failure: 'defect', retryable: false, operator: 'Correct the option that the message names; the definition was refused.' },
  HF_NAME_TAKEN: { failure: 'defect', retryable: false, operator: 'Give each definition of one kind its own name.' },
  HF_NOT_STARTED: { failure: 'defect', retryable: false, operator: 'Call start() and wait for it before using what needs the store.' },
  HF_ALREADY_STARTED: { failure: 'defect', retryable: false, operator: 'Make definitions before start(); start a service once.' },
  HF_STOPPING: { failure: 'infra_error', retryable: true, operator: 'The instance is draining; send the work to another instance or wait for the restart.' },
  HF_CONFIG_INVALID: { failure: 'user_error', retryable: false, operator: 'Set every setting that the message lists, then start again.' },
  HF_INVARIANT: { failure: 'defect', retryable: false, operator: 'A belief of the code was wrong: report it with the log around this line.' },
  // guard
  HF_BREAKER_OPEN: { failure: 'dependency_error', retryable: true, operator: 'The dependency is failing and is left alone until the breaker tries again; follow its runbook.' },
  HF_TIMEOUT: { failure: 'dependency_error', retryable: true, operator: 'One attempt took longer than its timeout; look at the latency of the dependency.' },
  HF_DEADLINE: { failure: 'dependency_error', retryable: true, operator: 'The whole call ran out of time; look at the latency of the dependency and at the retries.' },
  HF_OVERLOADED: { failure: 'dependency_error', retryable: true, operator: 'The concurrency limit and its queue are full; the dependency is slow or the load is too high.' },
  HF_RATE_LIMITED: { failure: 'user_error', retryable: true, operator: 'The caller exceeded a declared limit; it may try again after the stated wait.' },
  HF_CALL_FAILED: { failure: 'dependency_error', retryable: true, operator: 'The dependency answered with an error; see the cause and its runbook.' },
  HF_CALL_REJECTED: { failure: 'dependency_error', retryable: false, operator: 'The dependency answered no, or the work around the call failed; repeating it would not help. See the cause.' },
  HF_CANCELLED: { failure: 'user_error', retryable: false, operator: 'The caller gave up; nothing is to be done.' },
  HF_CALL_IN_TX: { failure: 'defect', retryable: false, operator: 'Move the outside call out of the transaction; a slow dependency would hold it open.' },
  HF_NOT_REPEATABLE: { failure: 'defect', retryable: false, operator: 'A call that is not declared repeatable was to be retried or hedged: declare effect read or idempotent, or take retry and hedge away.' },
  // switches and irreversible actions
  HF_SWITCHED_OFF: { failure: 'user_error', retryable: true, operator: 'A kill switch is off; switch it on again when its runbook says so.' },
  HF_UNKNOWN_NAME: { failure: 'user_error', retryable: false, operator: 'No such name is declared; list the names and try again.' },
  HF_REASON_REQUIRED: { failure: 'user_error', retryable: false, operator: 'Say why, with --reason or the reason field: it is kept in the audit.' },
  HF_TICKET_INVALID: { failure: 'user_error', retryable: false, operator: 'The ticket is unknown, expired, used, or somebody else\'s; request a new one.' },
  HF_FORBIDDEN: { failure: 'user_error', retryable: false, operator: 'The actor lacks the role that this action needs.' },
  // store
  HF_STORE_UNAVAILABLE: { failure: 'infra_error', retryable: true, operator: 'The store cannot be reached; check the server, the network and the credentials.' },
  HF_STORE_CONFLICT: { failure: 'infra_error', retryable: true, operator: 'Concurrent transactions collided; the same call may be made again.' },
  HF_STORE_UNKNOWN_COMMIT: { failure: 'infra_error', retryable: false, operator: 'The connection was lost while committing; whether it happened is found out by key, never guessed.' },
  HF_STORE_REENTRANT: { failure: 'defect', retryable: false, operator: 'A store call was made inside a transaction; pass the transaction along (join it) or move the call out.' },
  HF_STORE_LOCKED: { failure: 'infra_error', retryable: false, operator: 'Another process has this data directory open; stop it or use another directory.' },
  HF_STORE_DAMAGED: { failure: 'infra_error', retryable: false, operator: 'The data directory cannot be opened: restore the last snapshot with holdfast restore. What is left was kept.' },
  HF_STORE_DIRECTORY: { failure: 'infra_error', retryable: false, operator: 'The data directory cannot be used: make it one that this user may write, with room on its disk.' },
  HF_SNAPSHOT_INVALID: { failure: 'user_error', retryable: false, operator: 'This snapshot cannot be restored, and nothing was changed; take an earlier one.' },
  HF_STORE_SCHEMA: { failure: 'infra_error', retryable: false, operator: 'The schema was made by a newer version or a migration failed; deploy a matching version.' },
  HF_STORE_TX_TIMEOUT: { failure: 'infra_error', retryable: false, operator: 'A transaction stayed open longer than it may and was rolled back; move slow work out of it, or look for what blocked it.' },
  HF_QUERY_FAILED: { failure: 'infra_error', retryable: false, operator: 'The database refused a statement; see the cause.' },
  // durable
  HF_INPUT_INVALID: { failure: 'user_error', retryable: false, operator: 'The input does not match the declared schema; see the message.' },
  HF_RESULT_NOT_JSON: { failure: 'defect', retryable: false, operator: 'Return plain JSON from what is recorded: no Date, undefined, function or class instance.' },
  HF_KEY_REUSED: { failure: 'domain_error', retryable: false, operator: 'The same key came with another input; the first one stands. Find out which of the two is right.' },
  HF_LEASE_LOST: { failure: 'infra_error', retryable: true, operator: 'Another instance took over; this one stopped. Nothing it wrote afterwards was accepted.' },
  HF_SAGA_DIVERGED: { failure: 'defect', retryable: false, operator: 'The code no longer matches the journal of this run; deploy the version that began it, or settle it by hand.' },
  HF_REFUSED: { failure: 'domain_error', retryable: false, operator: 'The other side refused for good and nothing happened there; the message says why.' },
  HF_SAGA_STEP_FAILED: { failure: 'dependency_error', retryable: true, operator: 'A step failed for good and the run was undone; see the cause.' },
  // worker, inbox, outbox
  HF_WORKER_DEADLINE: { failure: 'dependency_error', retryable: true, operator: 'One iteration took longer than its deadline and was cancelled; see what it waited for.' },
  HF_MESSAGE_UNREACHABLE: { failure: 'domain_error', retryable: false, operator: 'The recipient cannot be reached (blocked the bot, left, deleted); nothing more is sent.' },
  // tests
  HF_CRASH_TEST_FAILED: { failure: 'defect', retryable: false, operator: 'A crash at the named points breaks what the test promises; run the schedule again with `replay` and read what was recorded when.' },
  // http and webhooks
  HF_BODY_TOO_LARGE: { failure: 'user_error', retryable: false, operator: 'The request body exceeds the limit; nothing was changed.' },
  HF_BODY_INVALID: { failure: 'user_error', retryable: false, operator: 'The request body is not what was expected; nothing was changed.' },
  HF_IDEMPOTENCY_KEY_INVALID: { failure: 'user_error', retryable: false, operator: 'The client must send one Idempotency-Key header: a quoted string of 1 to 255 characters, new for each operation.' },
  HF_IN_PROGRESS: { failure: 'user_error', retryable: true, operator: 'The same request is being carried out; the client asks again after the stated wait.' },
  HF_OUTCOME_UNKNOWN: { failure: 'infra_error', retryable: true, operator: 'Whether the request took effect is not known; it is settled as its operation declares. Where it waits for you, look at the other side and settle the work item.' },
  HF_ANSWER_TOO_LARGE: { failure: 'defect', retryable: false, operator: 'The operation answered more than is kept for replays: answer with a reference, or raise its answerLimit.' },
  HF_SIGNATURE_INVALID: { failure: 'user_error', retryable: false, operator: 'The request is not signed with the shared secret; check the secret on both sides.' },
  HF_UNAUTHENTICATED: { failure: 'user_error', retryable: false, operator: 'Say who you are: the operator token as HOLDFAST_TOKEN, --token or the console\'s login; without one only this machine is answered.' },
  HF_SERVICE_UNREACHABLE: { failure: 'infra_error', retryable: true, operator: 'No service answers there; start it, or name it with --url, HOLDFAST_URL or --data.' },
  HF_PORT_IN_USE: { failure: 'infra_error', retryable: false, operator: 'Another program listens on this port; stop it or choose another port.' },
} as const

export type ErrorCode = keyof typeof CATALOGUE
export const ERRORS: Readonly<Record<ErrorCode, Entry>> = CATALOGUE
