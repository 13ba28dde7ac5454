/**
 * What every room is handed by whoever wires it: the world, the event spine, and who we are.
 */
import type { Env } from './env.ts'
import type { EventBus } from './events.ts'

export interface Kit {
  readonly env: Env
  readonly events: EventBus
  /** `vpn-bot` */
  readonly service: string
  /** This process among the instances of the service; new at every start. */
  readonly instance: string
}
