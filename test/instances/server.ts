/**
 * The PostgreSQL of a run, in a process of its own: a restart waits for the server, and nobody else may have to.
 *
 * Started by ./server-host.ts with `fork`; ends its server and itself when that one has gone.
 */
import { testPostgres } from '../postgres.ts'

export interface ServerReply {
  readonly url?: string
  readonly restarted?: boolean
  readonly failed?: string
}

const reply = (message: ServerReply): void => { process.send?.(message) }
const server = await testPostgres({ own: true })
const leave = (): void => {
  server.remove()
  process.exit(0)
}
process.once('disconnect', leave)
process.on('message', (message: 'restart' | 'stop') => {
  if (message === 'stop') return leave()
  server.restart('immediate').then(() => { reply({ restarted: true }) }, (error: unknown) => { reply({ failed: String(error) }) })
})
reply({ url: await server.url() })
