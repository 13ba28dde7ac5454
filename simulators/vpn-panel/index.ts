/**
 * @module holdfast-simulators/vpn-panel
 * A VPN panel in the manner of Marzban: users by name, conflict by 409, bearer token.
 */
export * from './vpn-panel-simulator.ts'
