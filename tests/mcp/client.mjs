// The official TypeScript client against the tool server at the URL given; prints TAP.
//
// Its answers are validated by the client itself: against the protocol's schemas, and structuredContent
// against the outputSchema that tools/list gave.

import assert from 'node:assert/strict'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

const [url, token] = process.argv.slice(2)
const tests = []
const test = (name, run) => tests.push({ name, run })

function transport() {
  return new StreamableHTTPClientTransport(new URL(url), {
    requestInit: token ? { headers: { Authorization: `Bearer ${token}` } } : {},
  })
}

test('it agrees on the current revision', async (client) => {
  assert.equal(client.transport.protocolVersion, '2025-11-25')
  assert.equal(client.getServerVersion().name, 'sandbox-tool-server')
  assert.match(client.getInstructions(), /sandbox/)
  await client.ping()
})

test('it lists the tools', async (client) => {
  const { tools } = await client.listTools()
  assert.deepEqual(tools.map((tool) => tool.name), [
    'run_command', 'command_output', 'kill_command', 'read_file', 'write_file', 'edit_file', 'list_directory',
    'search_files',
  ])
  for (const tool of tools) {
    assert.equal(tool.inputSchema.type, 'object')
    assert.equal(typeof tool.annotations.readOnlyHint, 'boolean')
  }
})

test('it runs a command', async (client) => {
  const { structuredContent } = await client.callTool({ name: 'run_command', arguments: { command: 'echo $((6 * 7))' } })
  assert.equal(structuredContent.output, '42\n')
  assert.equal(structuredContent.exit_code, 0)
})

test('every tool gives what its outputSchema says', async (client) => {
  const call = (name, args) => client.callTool({ name, arguments: args })
  const folder = `mcp-${process.pid}`
  await call('write_file', { path: `${folder}/a.txt`, content: 'one\ntwo\n' })
  await call('edit_file', { path: `${folder}/a.txt`, old_text: 'two', new_text: 'three' })
  assert.equal((await call('read_file', { path: `${folder}/a.txt` })).content[0].text, 'one\nthree\n')
  assert.equal((await call('list_directory', { path: folder })).structuredContent.entries[0].path, 'a.txt')
  const found = await call('search_files', { path: folder, pattern: 'thr' })
  assert.equal(found.structuredContent.matches[0].line, 2)
  const { structuredContent: started } = await call('run_command', { command: 'sleep 60', background: true })
  assert.equal((await call('command_output', { command_id: started.command_id })).structuredContent.running, true)
  assert.equal((await call('command_output', {})).structuredContent.commands.length > 0, true)
  assert.equal((await call('kill_command', { command_id: started.command_id })).structuredContent.running, false)
  await call('run_command', { command: `rm -r ${folder}` })
})

test('what goes wrong in a tool is a result', async (client) => {
  const result = await client.callTool({ name: 'read_file', arguments: { path: '/nope' } })
  assert.equal(result.isError, true)
  await assert.rejects(client.callTool({ name: 'nope', arguments: {} }), /unknown tool/)
})

test('progress arrives while a command runs, and keeps the call alive', async (client) => {
  const seen = []
  await client.callTool({ name: 'run_command', arguments: { command: 'for i in 1 2 3; do echo $i; sleep 1; done' } }, undefined, {
    onprogress: (progress) => seen.push(progress),
    timeout: 2500,
    resetTimeoutOnProgress: true,
  })
  assert.ok(seen.length >= 2, JSON.stringify(seen))
})

test('aborting a call kills its command', async (client) => {
  const abort = new AbortController()
  const running = client.callTool({ name: 'run_command', arguments: { command: 'exec sleep 86399' } }, undefined, {
    signal: abort.signal,
  })
  const count = async () => Number((await client.callTool({
    name: 'run_command', arguments: { command: "grep -alsx 'sleep.86399.' /proc/[0-9]*/cmdline | wc -l" },
  })).structuredContent.output)
  const until = async (wanted) => {
    for (const end = Date.now() + 10_000; (await count()) !== wanted; ) assert.ok(Date.now() < end, `not ${wanted} of them`)
  }
  await until(1)
  abort.abort()
  await assert.rejects(running)
  await until(0)
})

test('a session ends when it is told to', async () => {
  const client = new Client({ name: 'tests', version: '1' })
  await client.connect(transport())
  await client.transport.terminateSession()
  assert.equal(client.transport.sessionId, undefined)
  await client.close()
})

let failed = 0
console.log(`TAP version 13\n1..${tests.length}`)
const client = new Client({ name: 'tests', version: '1' })
try {
  await client.connect(transport())
  for (const [index, { name, run }] of tests.entries()) {
    try {
      await run(client)
      console.log(`ok ${index + 1} - ${name}`)
    } catch (error) {
      failed++
      console.log(`not ok ${index + 1} - ${name}\n${String(error?.stack ?? error).split('\n').map((line) => `  # ${line}`).join('\n')}`)
    }
  }
  await client.close()
} catch (error) {
  failed++
  console.log(`Bail out! ${error?.stack ?? error}`)
}
process.exit(failed === 0 ? 0 : 1)
