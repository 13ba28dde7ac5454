import { simulationShare } from './simulation.share.ts'

simulationShare(0)
