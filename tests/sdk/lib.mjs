// lib - the little that the SDK programs share: TAP lines, a sandbox per program, requests that
// keep their Host header.
//
// The environment names the server: E2B_API_URL, E2B_SANDBOX_URL, E2B_DOMAIN, E2B_API_KEY. Nothing
// in these programs knows that it is not E2B's own cloud.

import assert from 'node:assert/strict'
import http from 'node:http'
import { Sandbox } from 'e2b'

const tests = []

export function test(name, run) {
  tests.push({ name, run })
}

/** Runs every test in order; a failure does not stop the others. Exit status 1 when one failed. */
export async function main({ sandbox: options = {} } = {}) {
  let failed = 0
  let sandbox = null
  console.log(`TAP version 13\n1..${tests.length}`)
  try {
    if (options !== null) {
      sandbox = await Sandbox.create({ timeoutMs: 120_000, ...options })
    }
    for (const [index, { name, run }] of tests.entries()) {
      const start = performance.now()
      try {
        await withTimeout(run(sandbox), 60_000)
        console.log(`ok ${index + 1} - ${name} # ${Math.round(performance.now() - start)} ms`)
      } catch (error) {
        failed++
        console.log(`not ok ${index + 1} - ${name}`)
        console.log(String(error?.stack ?? error).split('\n').map((line) => `  # ${line}`).join('\n'))
      }
    }
  } catch (error) {
    failed++
    console.log(`Bail out! ${error?.stack ?? error}`)
  } finally {
    await sandbox?.kill().catch(() => {})
  }
  process.exit(failed === 0 ? 0 : 1)
}

function withTimeout(promise, ms) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not finished within ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export async function eventually(what, check, ms = 10_000) {
  const end = Date.now() + ms
  for (;;) {
    const value = await check()
    if (value) {
      return value
    }
    if (Date.now() > end) {
      throw new Error(`${what}: not within ${ms} ms`)
    }
    await sleep(30)
  }
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/**
 * A request to a public name of the sandbox (`{port}-{id}.{domain}`) sent to the server under test:
 * node resolves names with getaddrinfo, which does not know *.localhost.
 */
export function request(url, { method = 'GET', headers = {}, body } = {}) {
  const target = new URL(url)
  const server = new URL(process.env.E2B_SANDBOX_URL ?? target.origin)
  return new Promise((resolve, reject) => {
    const call = http.request(
      {
        host: server.hostname,
        port: server.port,
        path: target.pathname + target.search,
        method,
        headers: { ...headers, Host: target.host },
        agent: false,
      },
      (response) => {
        const chunks = []
        response.on('data', (chunk) => chunks.push(chunk))
        response.on('end', () =>
          resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) })
        )
        response.on('error', reject)
      }
    )
    call.on('error', reject)
    call.end(body)
  })
}

export { assert, Sandbox }
