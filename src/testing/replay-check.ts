/**
 * A check for users' tests: do finished runs of a saga, run again over their journals, come to the same?
 *
 * What no type can see, a clock, a random number or a flag between the steps, shows here before it shows in an incident.
 */
import { HoldfastError } from '../core/index.ts'
import type { Saga } from '../durable/index.ts'

/**
 * Replays each run twice and carries nothing out. Run the saga once in a test, move time and randomness on, and call this.
 * @throws HF_SAGA_DIVERGED, which names the first difference
 * @example
 * await provision.start('p-1', input)
 * await env.advance('1d')
 * await replayCheck(provision, ['p-1'])
 */
export async function replayCheck(saga: Pick<Saga<never, unknown>, 'name' | 'replay'>, ids: readonly string[]): Promise<void> {
  for (const id of [...ids, ...ids]) {
    const report = await saga.replay(id)
    if (report.diverges) throw new HoldfastError('HF_SAGA_DIVERGED', { message: `saga ${saga.name} ${id} diverges from its journal: ${report.reason}`, context: { saga: saga.name, id } })
  }
}
