/**
 * The server of the storm: so many workers, a queue before them, and an outage in the middle.
 *
 * Its intake is the library's own `concurrencyLimit`. It does not learn that a caller has hung up: like most servers it works on for
 * nobody, and only a deadline that came with the request tells it not to begin: then the limit refuses what cannot be done in time any more. Refusing costs it nothing, which a real one's does.
 */
import { concurrencyLimit, HttpStatusError, type ConcurrencyLimit, type GuardKit } from 'holdfast/guard'
import { seededRandom, type SeededRandom } from '../kit/index.ts'
import type { Intake } from './columns.ts'
import { busyMs, ERROR_SHARE, isOut, type Scenario } from './scenario.ts'

export class StormServer {
  readonly #scenario: Scenario
  readonly #kit: GuardKit
  readonly #intake: ConcurrencyLimit
  readonly #keepsDeadlines: boolean
  readonly #random: SeededRandom

  constructor(scenario: Scenario, intake: Intake, kit: GuardKit) {
    this.#scenario = scenario
    this.#kit = kit
    this.#intake = concurrencyLimit('server', { limit: scenario.workers, ...(intake.queue === undefined ? {} : { queue: intake.queue }) }, kit)
    this.#keepsDeadlines = intake.keepsDeadlines
    this.#random = seededRandom(scenario.seed ^ 0x5e72)
  }

  get queued(): number {
    return this.#intake.queued
  }

  /** One request, whose caller waits for `patienceMs`. @throws HttpStatusError 503 */
  async handle(patienceMs: number): Promise<void> {
    const { env } = this.#kit
    const work = async (): Promise<void> => {
      const ms = this.#scenario.fixedWorkMs - this.#scenario.randomWorkMs * Math.log(1 - this.#random.next())
      const fails = this.#scenario.outage === 'errors' && this.#random.next() < ERROR_SHARE && isOut(this.#scenario, env.monotonic())
      await new Promise<void>(resolve => { env.timer(busyMs(this.#scenario, ms, env.monotonic()), resolve) })
      if (fails) throw unavailable()
    }
    try {
      await this.#intake.run(work, this.#keepsDeadlines ? { deadline: `${patienceMs}ms` } : {})
    } catch {
      throw unavailable()
    }
  }
}

function unavailable(): HttpStatusError {
  return new HttpStatusError({ status: 503, headers: new Headers() }, { what: 'GET /' })
}
