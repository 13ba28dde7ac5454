/**
 * What the store costs anyway: the business write in a transaction of its own through the same driver (`postgres`), what people
 * write by hand to make it happen once, and PGlite as it comes.
 */
import { PGlite } from '@electric-sql/pglite'
import postgres from 'postgres'
import { freshDatabase, freshDirectory } from './database.mjs'
import { BUSINESS_TABLE, COMMITS, CONNECTIONS, INSERT_BUSINESS, order } from './work.mjs'

async function connected(...tables) {
  const { url, drop } = await freshDatabase()
  const sql = postgres(url, { max: CONNECTIONS, onnotice: () => undefined })
  for (const table of [BUSINESS_TABLE, ...tables]) await sql.unsafe(table)
  return { sql, close: () => sql.end().then(drop) }
}

async function raw() {
  const { sql, close } = await connected()
  const call = n => {
    const { id, amount } = order(n)
    return sql.begin(async tx => {
      await tx`INSERT INTO business (id, amount) VALUES (${id}, ${amount})`
      return { outcome: 'done', value: id }
    })
  }
  return { call, close }
}

async function byHand() {
  const { sql, close } = await connected('CREATE TABLE done (key text PRIMARY KEY, state text NOT NULL, result jsonb)')
  const call = n => {
    const { id, amount } = order(n)
    return sql.begin(async tx => {
      const claimed = await tx`INSERT INTO done (key, state) VALUES (${id}, 'started') ON CONFLICT DO NOTHING RETURNING 1`
      if (claimed.length === 0) throw new Error('it was there already')
      await tx`INSERT INTO business (id, amount) VALUES (${id}, ${amount})`
      await tx`UPDATE done SET state = 'done', result = ${tx.json(id)} WHERE key = ${id}`
      return { outcome: 'done', value: id }
    })
  }
  return { call, close }
}

/** The same, with everything in one turn that needs no answer: what remains is what the server and the driver cost. */
async function byHandTogether() {
  const { sql, close } = await connected('CREATE TABLE done (key text PRIMARY KEY, state text NOT NULL, result jsonb)')
  const prepared = { prepare: true }
  const call = async n => {
    const { id, amount } = order(n)
    const on = await sql.reserve()
    try {
      const [, claimed] = await Promise.all([on.unsafe('BEGIN'), on.unsafe("INSERT INTO done (key, state) VALUES ($1, 'started') ON CONFLICT DO NOTHING RETURNING 1", [id], prepared)])
      if (claimed.length === 0) throw new Error('it was there already')
      await on.unsafe(INSERT_BUSINESS, [id, amount], prepared)
      await Promise.all([on.unsafe("UPDATE done SET state = 'done', result = to_jsonb($1::text) WHERE key = $1", [id], prepared), on.unsafe('COMMIT')])
      return { outcome: 'done', value: id }
    } finally {
      on.release()
    }
  }
  return { call, close }
}

async function opened(path) {
  const pglite = await PGlite.create(path)
  await pglite.query('SELECT 1')
  return pglite
}

async function timeToOpen(again) {
  const { path, remove } = freshDirectory()
  if (again) await opened(path).then(pglite => pglite.close())
  const begun = performance.now()
  const pglite = await opened(path)
  const figure = performance.now() - begun
  return { figure, close: () => pglite.close().then(remove) }
}

const commit = (pglite, n) => pglite.transaction(tx => tx.query(INSERT_BUSINESS, [order(n).id, order(n).amount]))

async function commits() {
  const { path, remove } = freshDirectory()
  const pglite = await opened(path)
  await pglite.exec(BUSINESS_TABLE)
  return { call: async n => (await commit(pglite, n)).affectedRows, close: () => pglite.close().then(remove) }
}

async function memory(commitsBefore) {
  const { path, remove } = freshDirectory()
  const pglite = await opened(path)
  await pglite.exec(BUSINESS_TABLE)
  for (let n = 0; n < commitsBefore; n += 1) await commit(pglite, n)
  globalThis.gc()
  return { figure: process.memoryUsage().rss / 1024 / 1024, close: () => pglite.close().then(remove) }
}

/** Parts of cases, by name; see ./index.mjs. */
export default {
  'once': raw,
  'once by hand': byHand,
  'once by hand, together': byHandTogether,
  'embedded, first open': () => timeToOpen(false),
  'embedded, open again': () => timeToOpen(true),
  'embedded, commits': commits,
  'embedded, memory when open': () => memory(0),
  'embedded, memory after commits': () => memory(COMMITS),
}
