/**
 * What to do about each named trouble, as data: shown beside the alert, the work item and the switch.
 */
export interface Runbook {
  readonly title: string
  /** The failure mode: what is wrong, how it shows. */
  readonly when: string
  /** May everything the runbook is about simply be tried again? */
  readonly safeToRetry: boolean
  /** What a person does, in order. */
  readonly steps: readonly string[]
  /** Commands to paste. */
  readonly commands?: readonly string[]
}
