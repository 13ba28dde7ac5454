/**
 * Replay of a recorded run, for tests: nothing is carried out and nothing is written.
 *
 * What types cannot see, a clock or a random number between steps, shows when the same journal leads the same function elsewhere.
 */
import { canonicalJson, checkInput, decodeJson, encodeJson, isHoldfastError, messageOf, type Json } from '../../core/index.ts'
import { differenceOf } from './execution.ts'
import { anyStep, effectOf, type Resolved } from './options.ts'
import type { ReplayReport } from './operator-types.ts'
import type { RunRow, StepRow } from './port.ts'
import type { LocalStep, OutsideStep, SagaOptions } from './types.ts'

/** Thrown at the first step that the journal has no result of. */
const END = new Error('the journal ends here')

export async function replayRun<In, I, R extends Json | void, Tx>(name: string, options: SagaOptions<In, I, R, Tx, string>, resolved: Resolved, run: RunRow, steps: readonly StepRow[]): Promise<ReplayReport> {
  let seq = 0
  let difference: string | undefined
  const step = async (stepName: string, given: OutsideStep<Json, string> | LocalStep<Json, Tx>): Promise<Json> => {
    const recorded = steps[seq]
    if (difference !== undefined) throw END
    if (recorded === undefined && run.state === 'done') difference = `the journal has ${String(steps.length)} steps, the code asks for another: ${stepName}`
    if (recorded === undefined) throw END
    difference = differenceOf(seq, recorded, stepName, effectOf(anyStep(given)))
    if (difference !== undefined) throw END
    seq += 1
    if (recorded.state === 'intent' || recorded.state === 'clear') throw END
    return decodeJson<Json>(recorded.output ?? 'null')
  }
  let result: string | undefined
  try {
    const input = await checkInput(options.input, decodeJson<unknown>(run.input), `saga ${name}`)
    result = encodeJson(await resolved.runOf(run.version, options)(step, input), `saga ${name}: result`)
  } catch (error) {
    if (error !== END && difference === undefined && (run.state === 'done' || isHoldfastError(error))) difference = messageOf(error)
  }
  if (difference === undefined && seq < steps.length) difference = `the journal has ${String(steps.length)} steps, the next is ${steps[seq]?.name ?? ''}; the code reaches ${String(seq)}`
  if (difference === undefined && run.state === 'done' && result !== undefined && canonicalJson(decodeJson(result)) !== canonicalJson(decodeJson(run.result ?? 'null'))) difference = 'the function comes to another result'
  return difference === undefined ? { diverges: false, steps: seq } : { diverges: true, reason: difference }
}
