/**
 * A store whose database has the time of the run instead of its own.
 *
 * All SQL of the library asks `clock_timestamp()`. A schema with a function of that name stands before `pg_catalog` on the
 * search path and answers with a setting, which each transaction is given as its first statement.
 */
import { EventBus, realEnv } from '../../../src/core/index.ts'
import { DURABLE_MIGRATIONS } from '../../../src/durable/index.ts'
import { migrate, type Database, type SqlTx, type Store } from '../../../src/store/index.ts'
import { workerMigrations } from '../../../src/worker/index.ts'

export function timedStore(store: Store, nowMs: () => number): Store {
  return { ...store, open: async options => timed(await store.open(options), nowMs) }
}

function timed(database: Database<SqlTx>, nowMs: () => number): Database<SqlTx> {
  return {
    dialect: database.dialect,
    durability: database.durability,
    ping: signal => database.ping(signal),
    close: () => database.close(),
    transaction: (name, work, options) => database.transaction(name, async tx => {
      await tx.query(`SET LOCAL search_path = sim, pg_catalog, public; SET LOCAL sim.now_ms = '${String(nowMs())}'`)
      return work(tx)
    }, options),
  }
}

/** An empty database becomes one that flows run on. Everything is made with the run's time in force, defaults of columns too. */
export async function prepareDatabase(store: Store, nowMs: () => number): Promise<Database<SqlTx>> {
  const env = realEnv()
  const database = await store.open({ env, events: new EventBus(env), service: 'test' })
  await database.transaction('rig.prepare', tx => tx.query(`
    CREATE SCHEMA sim;
    CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
      $$ SELECT to_timestamp(current_setting('sim.now_ms')::float8 / 1000) $$;
    CREATE TABLE public.effect (n bigserial PRIMARY KEY, run text NOT NULL, text text NOT NULL);
    CREATE INDEX effect_run ON public.effect (run)`))
  const timely = timed(database, nowMs)
  await migrate(timely, 'durable', DURABLE_MIGRATIONS)
  await migrate(timely, 'worker', workerMigrations)
  return timely
}

/** A business row of one iteration. */
export async function writeRow(tx: SqlTx, run: string, text: string): Promise<void> {
  await tx.query('INSERT INTO public.effect (run, text) VALUES ($1, $2)', [run, text])
}

/** In the order of their writing, which is that of their commits wherever something excludes two writers. */
export async function writtenRows(tx: SqlTx, run: string): Promise<readonly string[]> {
  return (await tx.query<{ text: string }>('SELECT text FROM public.effect WHERE run = $1 ORDER BY n', [run])).map(row => row.text)
}
