/**
 * @module holdfast/core
 * The words that every other room uses: durations, errors, events, the Env, context. Depends on Node alone.
 */
export * from './abort-watch.ts'
export * from './bytes.ts'
export * from './context.ts'
export * from './duration.ts'
export * from './env.ts'
export * from './errors.ts'
export type { BreakerState, ComponentState, IterationOutcome, SystemState, Tier } from './event-catalogue.ts'
export * from './events.ts'
export * from './json.ts'
export type * from './kit.ts'
export * from './names.ts'
export * from './outcome.ts'
