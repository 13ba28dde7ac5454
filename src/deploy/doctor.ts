/**
 * The doctor: looks at what a service stands on and says of each thing pass, warn, fail or unknown, and what to do.
 *
 * It only reads. Each check is on its own: one that cannot be made is `unknown` with the reason and keeps none of the others.
 * Not here: whether the service works right now (health); what it is made of (the manifest, a later room).
 */
import { messageOf, type Env } from '../core/index.ts'
import { sqlDatabase, type Database, type Durability, type Migration, type SqlTx } from '../store/index.ts'

export type DoctorVerdict = 'pass' | 'warn' | 'fail' | 'unknown'

export interface DoctorCheck {
  readonly name: string
  readonly verdict: DoctorVerdict
  /** What was found. */
  readonly found: string
  /** What a person can do; absent where there is nothing to do. */
  readonly remedy?: string
}

export interface DoctorReport {
  /** The worst of them; `unknown` counts as a warning. */
  readonly verdict: 'pass' | 'warn' | 'fail'
  readonly checks: readonly DoctorCheck[]
}

export interface DoctorInput<Tx> {
  readonly env: Pick<Env, 'now' | 'monotonic'>
  readonly replicas: number
  readonly store: { readonly name: string; readonly durability: Durability } | undefined
  /** @throws what says that it is not open */
  readonly database: () => Database<Tx>
  readonly migrations: readonly { readonly scope: string; readonly migrations: readonly Migration[] }[]
  /** How much waits for a person. */
  readonly waiting: () => Promise<number>
}

export const DOCTOR_DEFAULTS: { readonly slowMs: number; readonly clockMs: number; readonly serverMin: number; readonly overdueHours: number; readonly openSeconds: number } = Object.freeze({
  /** A ping of a store nearby takes a few milliseconds. */
  slowMs: 500,
  /** Leases and schedules go by the database's clock, so this only makes logs hard to read; more than that is a clock that nobody sets. */
  clockMs: 2_000,
  /** The oldest that the tests run on. */
  serverMin: 140_000,
  /** The sweep runs every 15 s: what is this late will not be swept. */
  overdueHours: 24,
  /** Bounded transactions end within 10 s. */
  openSeconds: 300,
})

type Finding = Omit<DoctorCheck, 'name'>
type Read = <Row>(sql: string, params?: readonly unknown[]) => Promise<readonly Row[]>

export async function examine<Tx>(input: DoctorInput<Tx>): Promise<DoctorReport> {
  const checks: DoctorCheck[] = []
  const check = async (name: string, look: () => Finding | Promise<Finding>): Promise<void> => {
    try {
      checks.push({ name, ...await look() })
    } catch (error) {
      checks.push({ name, verdict: 'unknown', found: `it could not be found out: ${messageOf(error)}` })
    }
  }
  const { store } = input
  if (store === undefined) {
    checks.push({ name: 'store', verdict: 'pass', found: 'there is none: nothing is kept across restarts' })
    return { verdict: 'pass', checks }
  }
  await check('store', () => reachable(input))
  await check('durability', () => durability(store, input.replicas))
  await check('work', async () => workWaiting(await input.waiting()))
  if (checks[0]?.verdict !== 'fail' && input.database().dialect === 'sql') {
    const database = sqlDatabase(input.database())
    const read: Read = (sql, params) => database.transaction('doctor.look', (tx: SqlTx) => tx.query(sql, params))
    for (const { scope, migrations } of input.migrations) await check(`schema ${scope}`, () => schema(read, scope, migrations))
    await check('server', () => server(read))
    await check('clock', () => clock(read, input.env))
    await check('retention', () => retention(read))
    await check('locks', () => locks(read))
  }
  const worst = checks.some(each => each.verdict === 'fail') ? 'fail' : checks.some(each => each.verdict !== 'pass') ? 'warn' : 'pass'
  return { verdict: worst, checks }
}

async function reachable<Tx>({ database, env, store }: DoctorInput<Tx>): Promise<Finding> {
  const begunAt = env.monotonic()
  try {
    await database().ping()
  } catch (error) {
    return { verdict: 'fail', found: messageOf(error), remedy: 'see to the server, the network and the credentials; what the service does meanwhile is in its health' }
  }
  const tookMs = Math.round(env.monotonic() - begunAt)
  const found = `${store?.name ?? 'the store'} answers in ${String(tookMs)} ms`
  return tookMs <= DOCTOR_DEFAULTS.slowMs ? { verdict: 'pass', found } : { verdict: 'warn', found, remedy: 'every durable step waits that long several times: bring the store nearer, or see to its load' }
}

function durability({ name, durability: kept }: { readonly name: string; readonly durability: Durability }, replicas: number): Finding {
  if (replicas > 1 && !kept.severalInstances) return { verdict: 'fail', found: `${String(replicas)} replicas are declared, and ${name} is for one instance`, remedy: 'use postgres(url), or run one instance' }
  if (!kept.processCrash) return { verdict: 'warn', found: `${name} is gone with the process`, remedy: 'use embedded(dir) or postgres(url) where anything must be remembered' }
  if (!kept.powerLoss) return { verdict: 'warn', found: `${name} outlives the process and not the power`, remedy: 'use flush: \'commit\', its default' }
  return { verdict: 'pass', found: `${name} outlives the process and the power; ${String(replicas)} ${replicas === 1 ? 'replica' : 'replicas'} declared` }
}

function workWaiting(count: number): Finding {
  if (count === 0) return { verdict: 'pass', found: 'nothing waits for a person' }
  return { verdict: 'warn', found: `${String(count)} ${count === 1 ? 'piece of work waits' : 'pieces of work wait'} for a person`, remedy: 'holdfast work' }
}

async function schema(read: Read, scope: string, migrations: readonly Migration[]): Promise<Finding> {
  const applied = await read<{ readonly id: number; readonly name: string; readonly older_code_runs: boolean }>('SELECT id, name, older_code_runs FROM holdfast.migration WHERE scope = $1 ORDER BY id', [scope])
  const known = new Set(migrations.map(migration => migration.id))
  const highest = applied.at(-1)?.id ?? 0
  const pending = migrations.filter(migration => !applied.some(row => row.id === migration.id))
  const unknown = applied.filter(row => !known.has(row.id))
  const breaking = unknown.filter(row => !row.older_code_runs)
  if (breaking.length > 0) return { verdict: 'fail', found: `the database has ${breaking.map(row => `${String(row.id)} (${row.name})`).join(', ')}, on which this version cannot run`, remedy: 'deploy the newer version again' }
  if (pending.length > 0) return { verdict: 'fail', found: `${pending.map(each => `${String(each.id)} (${each.name})`).join(', ')} ${pending.length === 1 ? 'is' : 'are'} not applied`, remedy: 'start the service: it migrates before it is ready' }
  if (unknown.length > 0) return { verdict: 'warn', found: `the database is ahead by ${unknown.map(row => `${String(row.id)} (${row.name})`).join(', ')}, with which this version runs`, remedy: 'nothing while a newer version is rolled out or taken back; else deploy it' }
  return { verdict: 'pass', found: `at ${String(highest)}, as this version knows it` }
}

async function server(read: Read): Promise<Finding> {
  const [row] = await read<{ readonly number: string; readonly name: string }>(`SELECT current_setting('server_version_num') AS number, current_setting('server_version') AS name`)
  const found = `PostgreSQL ${row?.name ?? '?'}`
  return Number(row?.number) >= DOCTOR_DEFAULTS.serverMin ? { verdict: 'pass', found } : { verdict: 'fail', found, remedy: 'PostgreSQL 14 or newer is needed' }
}

async function clock(read: Read, env: DoctorInput<unknown>['env']): Promise<Finding> {
  const before = env.now()
  const [row] = await read<{ readonly ms: string }>('SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms')
  const after = env.now()
  // The answer is of some moment between the two.
  const theirs = Number(row?.ms)
  const apartMs = theirs < before ? before - theirs : theirs > after ? theirs - after : 0
  const found = apartMs === 0 ? 'this process and the database agree on the time' : `this process and the database are at least ${String(apartMs)} ms apart`
  return apartMs <= DOCTOR_DEFAULTS.clockMs ? { verdict: 'pass', found } : { verdict: 'warn', found, remedy: 'set both by NTP: leases and schedules go by the database, the log by this process' }
}

async function retention(read: Read): Promise<Finding> {
  const tables = await read<{ readonly name: string }>(`SELECT c.relname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind = 'r' AND a.attname = 'expires_at' AND c.relname IN ('once_record', 'inbox_row', 'outbox_message', 'saga_run', 'retry_entry') ORDER BY 1`)
  const overdue: string[] = []
  for (const { name } of tables) {
    const [row] = await read<{ readonly n: string }>(`SELECT count(*) AS n FROM holdfast.${name} WHERE expires_at < (SELECT clock_timestamp()) - $1::float8 * interval '1 hour'`, [DOCTOR_DEFAULTS.overdueHours])
    if (Number(row?.n) > 0) overdue.push(`${name} ${row?.n ?? ''}`)
  }
  if (overdue.length === 0) return { verdict: 'pass', found: 'what has expired is removed' }
  return { verdict: 'warn', found: `rows that expired more than ${String(DOCTOR_DEFAULTS.overdueHours)} h ago are still there: ${overdue.join(', ')}`, remedy: 'see why the worker recovery does not run: holdfast workers' }
}

async function locks(read: Read): Promise<Finding> {
  const [row] = await read<{ readonly waiting: string; readonly old: string }>(`
    SELECT (SELECT count(*) FROM pg_locks WHERE NOT granted) AS waiting,
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - $1::float8 * interval '1 second') AS old`, [DOCTOR_DEFAULTS.openSeconds])
  const [waiting, old] = [Number(row?.waiting), Number(row?.old)]
  if (old > 0) return { verdict: 'warn', found: `${String(old)} ${old === 1 ? 'transaction has' : 'transactions have'} been open for more than ${String(DOCTOR_DEFAULTS.openSeconds / 60)} minutes; ${String(waiting)} locks are waited for`, remedy: 'find its session in pg_stat_activity and end it: what it holds back cannot be cleared, and queues slow down' }
  return { verdict: 'pass', found: waiting === 0 ? 'no lock is waited for' : `${String(waiting)} locks are waited for, by transactions that end soon` }
}
