/**
 * Is this fit to be deployed? What can be found out before customers do.
 */
export { examine, DOCTOR_DEFAULTS, type DoctorCheck, type DoctorInput, type DoctorReport, type DoctorVerdict } from './doctor.ts'
export { checkReplicas } from './replicas.ts'
