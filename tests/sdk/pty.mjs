// pty - terminals through the SDK.

import { TimeoutError } from 'e2b'
import { assert, eventually, main, test } from './lib.mjs'

const encode = (text) => new TextEncoder().encode(text)

function open(sandbox, options = {}) {
  const state = { text: '' }
  const decoder = new TextDecoder()
  const ready = sandbox.pty.create({
    cols: 80,
    rows: 24,
    onData: (data) => {
      state.text += decoder.decode(data, { stream: true })
    },
    ...options,
  })
  return { state, ready }
}

test('a shell with a size, an environment and a folder', async (sandbox) => {
  const { state, ready } = open(sandbox, { cols: 97, rows: 31, envs: { MINE: 'yes' }, cwd: '/tmp' })
  const handle = await ready
  await sandbox.pty.sendInput(handle.pid, encode('stty size; echo "<$MINE|$PWD|$TERM>"; tty\n'))
  await eventually('the answers', () => /\/dev\/pts\/\d+/.test(state.text))
  assert.match(state.text, /31 97/)
  assert.match(state.text, /<yes\|\/tmp\|xterm-256color>/)
  await sandbox.pty.sendInput(handle.pid, encode('exit 3\n'))
  await assert.rejects(handle.wait(), (error) => error.exitCode === 3)
})

test('resize', async (sandbox) => {
  const { state, ready } = open(sandbox)
  const handle = await ready
  await sandbox.pty.resize(handle.pid, { cols: 123, rows: 45 })
  await sandbox.pty.sendInput(handle.pid, encode('stty size\n'))
  await eventually('the new size', () => state.text.includes('45 123'))
  assert.equal(await sandbox.pty.kill(handle.pid), true)
  await assert.rejects(handle.wait())
})

test('control characters', async (sandbox) => {
  const { state, ready } = open(sandbox)
  const handle = await ready
  // its echo proves only that the line was typed; the shell may not have begun it
  await sandbox.pty.sendInput(handle.pid, encode('echo begun=$((6*6)); sleep 300\n'))
  await eventually('the command to run', () => state.text.includes('begun=36'))
  // an interrupt is lost when it finds the shell between its echo and the start of its sleep: send another
  await eventually('the prompt again', async () => {
    await sandbox.pty.sendInput(handle.pid, encode('\x03'))
    await sandbox.pty.sendInput(handle.pid, encode('echo back=$((6*7))\n'))
    await new Promise((resolve) => setTimeout(resolve, 500))
    return state.text.includes('back=42')
  })
  await sandbox.pty.sendInput(handle.pid, encode('\x04'))
  await handle.wait().catch((error) => assert.equal(error.exitCode, 130))
})

test('a second connection', async (sandbox) => {
  const { state, ready } = open(sandbox, { envs: { FOO: 'bar' } })
  const handle = await ready
  await sandbox.pty.sendInput(handle.pid, encode('echo "<$FOO>"\n'))
  await eventually('the first answer', () => state.text.includes('<bar>'))
  await handle.disconnect()
  let text = ''
  const again = await sandbox.pty.connect(handle.pid, { onData: (data) => (text += new TextDecoder().decode(data)) })
  assert.equal(again.pid, handle.pid)
  await sandbox.pty.sendInput(handle.pid, encode('echo "<<$FOO>>"\nexit\n'))
  assert.equal((await again.wait()).exitCode, 0)
  assert.match(text, /<<bar>>/)
})

test('as root, listed, timed out', async (sandbox) => {
  const { state, ready } = open(sandbox, { user: 'root', cwd: '/' })
  const handle = await ready
  await sandbox.pty.sendInput(handle.pid, encode('echo "<$(whoami)|$PWD>"\n'))
  await eventually('the answer', () => state.text.includes('<root|/>'))
  assert.ok((await sandbox.commands.list()).some((p) => p.pid === handle.pid))
  assert.equal(await handle.kill(), true)
  const brief = open(sandbox, { timeoutMs: 800 })
  await assert.rejects((await brief.ready).wait(), TimeoutError)
})

test('a killed terminal', async (sandbox) => {
  const { ready } = open(sandbox)
  const handle = await ready
  assert.equal(await handle.kill(), true)
  await assert.rejects(handle.wait())
  assert.equal(await sandbox.pty.kill(handle.pid), false)
})

main()
