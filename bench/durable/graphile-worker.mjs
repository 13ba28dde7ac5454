/**
 * graphile-worker: jobs added one by one, worked on by one runner without its local queue (which takes jobs ahead, and after a
 * crash keeps them locked for hours).
 */
import { makeWorkerUtils, Logger, run } from 'graphile-worker'
import { freshDatabase } from './database.mjs'
import { CONNECTIONS, order, WORKERS } from './work.mjs'

const logger = new Logger(() => () => undefined)

async function queue(count) {
  const { url, drop } = await freshDatabase()
  const utils = await makeWorkerUtils({ connectionString: url, logger })
  await utils.migrate()
  for (let n = 0; n < count; n += WORKERS) {
    await Promise.all(Array.from({ length: Math.min(WORKERS, count - n) }, (_, k) => utils.addJob('chat', order(n + k))))
  }
  await utils.release()
  let made = 0
  let runner
  const drain = async () => {
    let finish
    const all = new Promise(resolve => { finish = resolve })
    runner = await run({
      connectionString: url, logger, concurrency: WORKERS, maxPoolSize: CONNECTIONS, noHandleSignals: true,
      taskList: { chat: async () => { if (++made === count) finish() } },
    })
    await all
    return made
  }
  return { drain, close: () => runner.stop().then(drop) }
}

export default { queue }
