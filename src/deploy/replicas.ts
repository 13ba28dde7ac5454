/**
 * How many instances are meant to run, against what the store allows: found out at start, and not by the data that the second one destroys.
 */
import { HoldfastError } from '../core/index.ts'
import type { Durability } from '../store/index.ts'

/** What a deployment sets beside the number that it starts. */
const VARIABLE = 'HOLDFAST_REPLICAS'

/**
 * How many there are: the option, else HOLDFAST_REPLICAS, else 1.
 * @throws HF_OPTION_INVALID for a number that is none, and for more than one on a store of one instance
 */
export function checkReplicas(option: number | undefined, environment: Readonly<Record<string, string | undefined>>, store: { readonly name: string; readonly durability: Durability } | undefined): number {
  const given = environment[VARIABLE]
  const replicas = option ?? (given === undefined || given === '' ? 1 : Number(given))
  if (!Number.isSafeInteger(replicas) || replicas < 1) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `replicas: expected a whole number from 1 on, got ${option === undefined ? `${VARIABLE}=${JSON.stringify(given)}` : String(option)}` })
  }
  if (replicas > 1 && store?.durability.severalInstances === false) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `${String(replicas)} replicas are declared, and the store ${store.name} is for one instance: use postgres(url), or run one` })
  }
  return replicas
}
