/**
 * @module holdfast/testing
 * For tests of services built on Holdfast, and of Holdfast itself: simulated time, network and death.
 */
export { faultProxy, type ArmedCut, type CutOptions, type Direction, type FaultProxy, type FaultProxyOptions, type Faults } from './fault-proxy.ts'
export { historyFrom, operationsOf, recordHistory, type Anomaly, type History, type HistoryEvent, type Operation, type OperationEnd, type PendingOperation } from './history.ts'
export { checkEffects, checkFences, checkLaneOrder, checkSet, type EffectsSeen, type FenceSeen, type Handled } from './history-checks.ts'
export { checkLinearizable, leaseModel, registerModel, type LeaseState, type LinearizableOptions, type Model } from './linearizable.ts'
export * from './outside-world.ts'
export * from './simulated-env.ts'
export * from './crash-test.ts'
export * from './explore.ts'
export { replayCheck } from './replay-check.ts'
export * from './schedule.ts'
export * from './world.ts'
export { withHooks, type StoreHooks } from '../store/index.ts'
