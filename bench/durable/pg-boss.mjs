/**
 * pg-boss: jobs sent one by one, fetched and completed in batches of as many as the others work on at a time. Its own loop
 * (`work`) waits half a second between two fetches at least, so it is fetched by hand here, which is faster.
 */
import PgBoss from 'pg-boss'
import { freshDatabase } from './database.mjs'
import { CONNECTIONS, order, WORKERS } from './work.mjs'

async function queue(count) {
  const { url, drop } = await freshDatabase()
  const boss = new PgBoss({ connectionString: url, max: CONNECTIONS })
  await boss.start()
  await boss.createQueue('chat')
  for (let n = 0; n < count; n += WORKERS) {
    await Promise.all(Array.from({ length: Math.min(WORKERS, count - n) }, (_, k) => boss.send('chat', order(n + k))))
  }
  const drain = async () => {
    let made = 0
    for (;;) {
      const jobs = await boss.fetch('chat', { batchSize: WORKERS })
      if (jobs.length === 0) return made
      made += jobs.length
      await boss.complete('chat', jobs.map(job => job.id))
    }
  }
  return { drain, close: () => boss.stop({ graceful: false }).then(drop) }
}

export default { queue }
