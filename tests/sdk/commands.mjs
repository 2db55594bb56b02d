// commands - running programs through the SDK: results, streams, users, background, input, time.

import { CommandExitError, InvalidArgumentError, NotFoundError, SandboxError, TimeoutError } from 'e2b'
import { assert, eventually, main, Sandbox, sleep, test } from './lib.mjs'

test('run returns stdout, stderr and exit code 0', async (sandbox) => {
  const result = await sandbox.commands.run('echo out; echo err >&2')
  assert.equal(result.exitCode, 0)
  assert.equal(result.stdout, 'out\n')
  assert.equal(result.stderr, 'err\n')
})

test('a failing command throws with its exit code and streams', async (sandbox) => {
  await assert.rejects(sandbox.commands.run('echo before; echo wrong >&2; exit 42'), (error) => {
    assert.ok(error instanceof CommandExitError)
    assert.equal(error.exitCode, 42)
    assert.equal(error.stdout, 'before\n')
    assert.equal(error.stderr, 'wrong\n')
    return true
  })
})

test('a missing program is exit code 127', async (sandbox) => {
  await assert.rejects(sandbox.commands.run('no-such-program'), (error) => error.exitCode === 127)
})

test('special characters and multi-byte output survive', async (sandbox) => {
  const text = `quotes ' " \\ dollars $HOME tabs\t unicode žluťoučký 🐎 日本語`
  const result = await sandbox.commands.run(`cat <<'END'\n${text}\nEND`)
  assert.equal(result.stdout, `${text}\n`)
})

test('long multi-byte output is not torn between events', async (sandbox) => {
  const result = await sandbox.commands.run(`for i in $(seq 20000); do printf 'ěščř🐎'; done`)
  assert.equal(result.stdout, 'ěščř🐎'.repeat(20000))
})

test('output streams while the command runs', async (sandbox) => {
  const seen = []
  const started = Date.now()
  await sandbox.commands.run('echo first; sleep 1; echo second >&2', {
    onStdout: (data) => seen.push(['out', data, Date.now() - started]),
    onStderr: (data) => seen.push(['err', data, Date.now() - started]),
  })
  assert.deepEqual(seen.map(([kind, data]) => [kind, data]), [['out', 'first\n'], ['err', 'second\n']])
  assert.ok(seen[0][2] < 900, `the first line came after ${seen[0][2]} ms`)
})

test('ten megabytes of output arrive whole', async (sandbox) => {
  const result = await sandbox.commands.run('yes 0123456789abcde | head -c 10000000')
  assert.equal(result.stdout.length, 10_000_000)
})

test('envs and cwd', async (sandbox) => {
  const result = await sandbox.commands.run('echo "$MINE|$PWD"', { envs: { MINE: 'a b=c' }, cwd: '/tmp' })
  assert.equal(result.stdout, 'a b=c|/tmp\n')
})

test('a missing cwd is an invalid argument', async (sandbox) => {
  await assert.rejects(sandbox.commands.run('pwd', { cwd: '/no/such/folder' }), InvalidArgumentError)
})

test('the default user is user, at home', async (sandbox) => {
  const result = await sandbox.commands.run('whoami; pwd; echo $HOME')
  assert.equal(result.stdout, 'user\n/home/user\n/home/user\n')
})

test('root can be asked for, an unknown user cannot', async (sandbox) => {
  assert.equal((await sandbox.commands.run('whoami; id -u', { user: 'root' })).stdout, 'root\n0\n')
  await assert.rejects(sandbox.commands.run('true', { user: 'nobody-here' }))
})

test('stdin', async (sandbox) => {
  const handle = await sandbox.commands.run('cat', { background: true, stdin: true })
  await sandbox.commands.sendStdin(handle.pid, 'hello ')
  await handle.sendStdin('world\n')
  await handle.closeStdin()
  const result = await handle.wait()
  assert.equal(result.stdout, 'hello world\n')
})

test('without stdin a reader sees the end at once', async (sandbox) => {
  assert.equal((await sandbox.commands.run('cat; echo done')).stdout, 'done\n')
})

test('background, list, kill', async (sandbox) => {
  const handle = await sandbox.commands.run('sleep 300', { background: true })
  const listed = (await sandbox.commands.list()).find((p) => p.pid === handle.pid)
  assert.equal(listed.cmd, '/bin/bash')
  assert.deepEqual(listed.args, ['-l', '-c', 'sleep 300'])
  assert.equal(await handle.kill(), true)
  await assert.rejects(handle.wait(), CommandExitError)
  assert.equal(await sandbox.commands.kill(handle.pid), false)
  assert.ok(!(await sandbox.commands.list()).some((p) => p.pid === handle.pid))
})

test('a background command outlives its stream and can be connected to', async (sandbox) => {
  const handle = await sandbox.commands.run('sleep 1; echo late; exit 3', { background: true })
  await handle.disconnect()
  const again = await sandbox.commands.connect(handle.pid)
  await assert.rejects(again.wait(), (error) => error.exitCode === 3 && error.stdout === 'late\n')
  await assert.rejects(sandbox.commands.connect(999999), NotFoundError)
})

test('a timeout kills the command', async (sandbox) => {
  const started = Date.now()
  await assert.rejects(sandbox.commands.run('echo $$ > /tmp/timed; sleep 300', { timeoutMs: 1000 }), TimeoutError)
  assert.ok(Date.now() - started < 5000)
  await eventually('the process to be gone', async () => {
    const done = await sandbox.commands.run('kill -0 $(cat /tmp/timed) 2>/dev/null && echo alive || echo dead')
    return done.stdout === 'dead\n'
  })
})

test('a timeout of 0 is none', async (sandbox) => {
  assert.equal((await sandbox.commands.run('sleep 1; echo ok', { timeoutMs: 0 })).stdout, 'ok\n')
})

test('a signal is reported', async (sandbox) => {
  await assert.rejects(sandbox.commands.run('kill -9 $$'), (error) => {
    assert.equal(error.exitCode, -1)
    assert.match(error.error ?? error.message, /killed/)
    return true
  })
})

test('callbacks of a connection see what comes after it', async (sandbox) => {
  const handle = await sandbox.commands.run('read line; echo got:$line; echo wrong >&2; exit 4', {
    background: true,
    stdin: true,
  })
  const seen = []
  const again = await sandbox.commands.connect(handle.pid, {
    onStdout: (data) => seen.push(data),
    onStderr: (data) => seen.push(data),
  })
  await sandbox.commands.sendStdin(handle.pid, new TextEncoder().encode('it\n'))
  for (const one of [handle, again]) {
    await assert.rejects(one.wait(), (error) => error.exitCode === 4 && error.stdout === 'got:it\n')
  }
  assert.deepEqual(seen.sort(), ['got:it\n', 'wrong\n'])
})

test('a command that has ended can still be asked how', async (sandbox) => {
  const handle = await sandbox.commands.run('exit 5', { background: true })
  await assert.rejects(handle.wait(), (error) => error.exitCode === 5)
  const late = await sandbox.commands.connect(handle.pid)
  await assert.rejects(late.wait(), (error) => error.exitCode === 5)
  await assert.rejects(sandbox.commands.sendStdin(handle.pid, 'x'), NotFoundError)
})

test('stdin that is not wanted, and none at all', async (sandbox) => {
  const handle = await sandbox.commands.run('cat', { background: true, stdin: true })
  await sandbox.commands.sendStdin(handle.pid, '')
  await sandbox.commands.sendStdin(handle.pid, 'Hello,\nWorld!')
  await eventually('the echo', () => handle.stdout === 'Hello,\nWorld!')
  await handle.kill()
  const off = await sandbox.commands.run('sleep 20', { background: true })
  await assert.rejects(sandbox.commands.sendStdin(off.pid, 'x'), SandboxError)
  await off.kill()
})

test('leaving early', async (sandbox) => {
  const controller = new AbortController()
  setTimeout(() => controller.abort(), 300)
  const started = Date.now()
  await assert.rejects(sandbox.commands.run('sleep 30', { signal: controller.signal }))
  assert.ok(Date.now() - started < 5000)
})

test('killing the sandbox ends its commands and says so', async () => {
  const other = await Sandbox.create({ timeoutMs: 60_000 })
  const handle = await other.commands.run('sleep 60', { background: true })
  await other.kill()
  await assert.rejects(handle.wait(), (error) => {
    assert.ok(error instanceof SandboxError)
    assert.match(error.message, /sandbox was killed or reached its end of life/)
    return true
  })
})

test('an environment of the sandbox, of a command, of the host', async () => {
  const other = await Sandbox.create({ timeoutMs: 60_000, envs: { FOO: 'bar' } })
  try {
    assert.equal((await other.commands.run('echo $FOO')).stdout, 'bar\n')
    assert.equal((await other.commands.run('echo $FOO', { envs: { FOO: 'baz' } })).stdout, 'baz\n')
    const out = await other.commands.run('echo "$E2B_SANDBOX|$E2B_SANDBOX_ID"; cat /run/e2b/.E2B_SANDBOX_ID')
    assert.equal(out.stdout, `true|${other.sandboxId}\n${other.sandboxId}`)
  } finally {
    await other.kill()
  }
})

test('an open sandbox and a secure one', async (sandbox) => {
  const open = await Sandbox.create({ timeoutMs: 60_000, secure: false })
  try {
    assert.equal((await open.commands.run('echo open')).stdout, 'open\n')
    await open.files.write('x', 'y')
    assert.equal(await open.files.read('x'), 'y')
  } finally {
    await open.kill()
  }
  const headers = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '49983', 'Content-Type': 'application/json' }
  const denied = await fetch(`${process.env.E2B_SANDBOX_URL}/process.Process/List`, { method: 'POST', headers, body: '{}' })
  assert.equal(denied.status, 401)
})

test('fifty at once', async (sandbox) => {
  const all = await Promise.all(
    Array.from({ length: 50 }, (_, i) => sandbox.commands.run(`echo ${i}; sleep 0.2`))
  )
  assert.deepEqual(all.map((r) => r.stdout), Array.from({ length: 50 }, (_, i) => `${i}\n`))
})

test('the shell is a login shell', async (sandbox) => {
  assert.equal((await sandbox.commands.run('shopt -q login_shell && echo yes')).stdout, 'yes\n')
  await sleep(0)
})

main()
