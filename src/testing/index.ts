/**
 * @module holdfast/testing
 * For tests of services built on Holdfast, and of Holdfast itself: simulated time, network and death.
 */
export { faultProxy, type ArmedCut, type CutOptions, type Direction, type FaultProxy, type FaultProxyOptions, type Faults } from './fault-proxy.ts'
export * from './simulated-env.ts'
export { withHooks, type StoreHooks } from '../store/index.ts'
