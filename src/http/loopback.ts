/**
 * Did this request come from this very machine, and from a program that meant to talk to us?
 *
 * Three conditions, each against a real attack: the socket's peer is a loopback address; the Host header names a loopback
 * host (a web page of somebody else can make the browser send requests here under its own name: DNS rebinding); and no proxy
 * passed it on (behind a reverse proxy on the same machine the whole internet comes from 127.0.0.1).
 */
import type { RequestInfo } from './handler.ts'

const FORWARDING = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'via']

/** `127.0.0.1`, all of 127/8, `::1`, and their IPv4-mapped spelling. */
export function isLoopbackAddress(address: string | undefined): boolean {
  if (address === undefined) return false
  const plain = address.toLowerCase().replace(/^::ffff:/, '')
  return plain === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(plain)
}

/** Is this a name for this machine alone: `localhost`, `127.x.x.x`, `[::1]`, with or without a port? */
export function isLoopbackHost(host: string): boolean {
  if (isLoopbackAddress(host)) return true
  const name = host.toLowerCase().replace(/:\d{1,5}$/, '').replace(/^\[(.*)\]$/, '$1')
  return name === 'localhost' || isLoopbackAddress(name)
}

/** The Host header, or what the URL says where there is no header (requests made in process). */
export function hostOf(request: Request): string {
  return request.headers.get('host') ?? new URL(request.url).host
}

export function isLocalRequest(request: Request, info: RequestInfo | undefined): boolean {
  return isLoopbackAddress(info?.remoteAddress) && isLoopbackHost(hostOf(request)) && FORWARDING.every(header => !request.headers.has(header))
}
