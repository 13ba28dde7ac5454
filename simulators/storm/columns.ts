/**
 * What is compared: the same calls by the same library, with its mechanisms switched on one by one.
 *
 * Every column is `dependency()` on the clients and `concurrencyLimit()` on the server; a mechanism that a column does not have is
 * taken away by options (a budget that never ends, a breaker that never opens, a queue that is never full). Each call waits at most a
 * second for one answer, and the server is told so.
 */
import type { DependencyOptions } from 'holdfast/guard'

/** How the server takes work in. */
export interface Intake {
  /** Requests that may wait. Undefined: as many as the library's default allows. */
  readonly queue: number | undefined
  /** Whether a request whose caller will have gone before it is done is dropped. */
  readonly keepsDeadlines: boolean
}

export interface Column {
  /** In CSV and on the command line. */
  readonly id: string
  readonly title: string
  /** What it has that naive retries have not. */
  readonly about: string
  readonly client: DependencyOptions
  readonly server: Intake
  /** `naive` must stay down, or the scenario shows nothing; `defaults` must keep the budget. */
  readonly role?: 'naive' | 'defaults'
}

/** How long a client waits for one answer; sent along, as a header would. */
export const TIMEOUT_MS = 1_000

const NEVER_FULL = 1_000_000
const UNLIMITED = 1_000_000
const WHO = { tier: 'required', runbook: 'retry-storm' } as const

const NAIVE_CLIENT = {
  ...WHO, timeout: '1s', deadline: '30s',
  retry: { attempts: 4, minWait: '100ms', maxWait: '100ms' },
  retryBudget: { ratio: 1, perSecond: UNLIMITED }, breaker: false, concurrency: UNLIMITED,
} as const satisfies DependencyOptions
const NAIVE_SERVER: Intake = { queue: NEVER_FULL, keepsDeadlines: false }

/** What a user writes: who it is and how long it may take. Everything else is the library's default. */
const DEFAULT_CLIENT = { ...WHO, timeout: '1s', deadline: '3s' } as const satisfies DependencyOptions
/** The queue holds what the workers can do in half of a caller's patience: 50 at 100 a second. */
const DEFAULT_SERVER: Intake = { queue: 50, keepsDeadlines: true }

function without<K extends keyof DependencyOptions>(options: DependencyOptions, name: K): DependencyOptions {
  return Object.fromEntries(Object.entries(options).filter(([key]) => key !== name)) as unknown as DependencyOptions
}

export const COLUMNS: readonly Column[] = Object.freeze([
  { id: 'no-retries', title: 'no retries', about: 'one attempt', client: { ...NAIVE_CLIENT, retry: false }, server: NAIVE_SERVER },
  { id: 'naive', title: 'naive retries', about: '4 attempts, 100 ms apart', client: NAIVE_CLIENT, server: NAIVE_SERVER, role: 'naive' },
  { id: 'jitter', title: '+ backoff with full jitter', about: 'waits of 100 ms to 20 s', client: { ...NAIVE_CLIENT, retry: { attempts: 4 } }, server: NAIVE_SERVER },
  { id: 'budget', title: '+ retry budget', about: 'the default one', client: without(NAIVE_CLIENT, 'retryBudget'), server: NAIVE_SERVER },
  { id: 'breaker', title: '+ breaker', about: 'the default one', client: without(NAIVE_CLIENT, 'breaker'), server: NAIVE_SERVER },
  { id: 'client-limit', title: '+ concurrency limit', about: '5 calls at once in each client', client: { ...NAIVE_CLIENT, concurrency: 5 }, server: NAIVE_SERVER },
  { id: 'adaptive-limit', title: '+ adaptive concurrency limit', about: 'finds itself, up to 200 a client', client: { ...NAIVE_CLIENT, concurrency: { adaptive: {} } }, server: NAIVE_SERVER },
  { id: 'server-queue', title: '+ bounded queue of the server', about: 'as many wait as are worked on', client: NAIVE_CLIENT, server: { queue: undefined, keepsDeadlines: false } },
  { id: 'server-deadline', title: '+ deadlines kept by the server', about: 'late requests are dropped', client: NAIVE_CLIENT, server: { queue: NEVER_FULL, keepsDeadlines: true } },
  { id: 'client-defaults', title: 'defaults, clients only', about: 'the server stays naive', client: DEFAULT_CLIENT, server: NAIVE_SERVER },
  { id: 'no-early-trials', title: 'holdfast without early trials', about: 'open for 60 s, and nobody looks', client: { ...DEFAULT_CLIENT, breaker: { probeEvery: false } }, server: DEFAULT_SERVER },
  { id: 'defaults', title: 'holdfast defaults', about: 'clients and server', client: DEFAULT_CLIENT, server: DEFAULT_SERVER, role: 'defaults' },
] satisfies readonly Column[])
