/**
 * DBOS: a workflow of three steps under an id of ours, on a pool of as many connections as the others have.
 */
import { DBOS } from '@dbos-inc/dbos-sdk'
import { freshDatabase } from './database.mjs'
import { CONNECTIONS, order, steps } from './work.mjs'

async function workflow() {
  const { url, drop } = await freshDatabase()
  DBOS.setConfig({ name: 'bench', systemDatabaseUrl: url, systemDatabasePoolSize: CONNECTIONS, logLevel: 'error', runAdminServer: false, enableOTLP: false })
  const provision = DBOS.registerWorkflow(async () => {
    const a = await DBOS.runStep(() => steps[0](), { name: 'a' })
    const b = await DBOS.runStep(() => steps[1](a), { name: 'b' })
    return DBOS.runStep(() => steps[2](b), { name: 'c' })
  }, { name: 'provision' })
  await DBOS.launch()
  const call = async n => {
    const handle = await DBOS.startWorkflow(provision, { workflowID: order(n).id })(order(n))
    return handle.getResult()
  }
  return { call, close: () => DBOS.shutdown().then(drop) }
}

export default { 'saga, 3 steps': workflow }
