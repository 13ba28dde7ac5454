import { simulationShare } from './simulation.share.ts'

simulationShare(1)
