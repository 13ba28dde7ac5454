/**
 * @module holdfast-simulators/kit
 * What all simulators share: fault scripts as data, a ledger of calls, control routes, serving over HTTP.
 */
export * from './fault-rule.ts'
export * from './faults.ts'
export * from './ledger.ts'
export * from './listen.ts'
export * from './random.ts'
export * from './simulator.ts'
