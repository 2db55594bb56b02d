"""What an operator asks of a running system: health checks, doctor, the figures of the queue."""

import re
import subprocess
from pathlib import Path

import httpx

from tests.harness.services import Redis, build_dir, free_port, wait_until
from tests.harness.stack import Stack


def ask(stack: Stack, program: str, verb: str, **env: str) -> tuple[int, str]:
    done = subprocess.run([str(build_dir() / program), verb], env=stack.env | env, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def findings(text: str) -> list[tuple[str, str, str]]:
    return [m.groups() for m in re.finditer(r"^(ok|warn|FAIL) +(\S+) +(.*)$", text, re.M)]


def test_health_is_of_the_own_process_not_of_anybody(fault_stack):
    stack = fault_stack()
    for process, program in ((stack.workers[0], "sandbox-worker"), (stack.reapers[0], "sandbox-reaper")):
        wait_until(f"{program} beats", lambda p=program: ask(stack, p, "health")[0] == 0, 10)
        assert process.stop(15) == 0  # takes its heartbeat along
        status, text = ask(stack, program, "health")
        assert status == 1 and "no live heartbeat of this host" in text
        status, text = ask(stack, program, "health", REDIS_PORT=str(free_port()))
        assert status == 1 and "Redis" in text


def test_doctor_finds_nothing_wrong_with_a_good_system(fault_stack):
    stack = fault_stack()
    stack.client().create()
    wait_until("all beat", lambda: ask(stack, "sandbox-gateway", "doctor")[0] == 0, 10)
    status, text = ask(stack, "sandbox-gateway", "doctor")
    found = findings(text)
    assert status == 0 and {check for _, check, _ in found} == {
        "configuration", "postgresql", "jobs", "redis", "processes", "provider"}, text
    assert not [f for f in found if f[0] == "FAIL"], text
    assert "e2b takes our key" in text and "1 workers, 1 reapers" in text
    for secret in (stack.env["JWT_SECRET_KEY"], stack.env["E2B_API_KEY"], stack.env["DATABASE_URL"]):
        assert secret not in text


def test_doctor_names_what_is_wrong_and_what_to_do(tmp_path, postgres, fault_provider):
    redis = Redis(tmp_path / "own-redis", aof=False)
    try:
        with Stack(tmp_path / "s", redis, postgres, fault_provider) as stack:
            redis.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            sid = stack.client().create()["sandbox_id"]
            assert stack.workers[0].stop(15) == 0 and stack.reapers[0].stop(15) == 0
            stack.sql(f"update sandboxes set expires_at = now() - interval '1 minute' where id = '{sid}'")
            stack.sql(f"insert into jobs (id, sandbox_id, seq, op, state, origin, max_attempts, finished_at) "
                      f"values (gen_random_uuid(), '{sid}', 99, 'pause', 'dead', 'client', 1, now())")
            fault_provider.faults({"route": "get", "mode": "status", "status": 401, "times": -1})
            status, text = ask(stack, "sandbox-gateway", "doctor", JWT_SECRET_KEY="a" * 40)
            assert status == 1
            for line in (r"warn +configuration +JWT_SECRET_KEY looks like something that can be guessed",
                         r"warn +redis +the append-only file is off", r"warn +redis +maxmemory-policy is allkeys-lru",
                         r"FAIL +processes +no live worker", r"FAIL +processes +no live reaper",
                         r"warn +jobs +1 dead jobs", r"warn +jobs +a deadline passed \d+ s ago",
                         r"FAIL +provider +e2b: .*\(auth\)"):
                assert re.search("^" + line, text, re.M), f"{line}\n{text}"
            assert text.count("-> ") == len([f for f in findings(text) if f[0] != "ok"]), "every finding has its advice"
            metrics = httpx.get(stack.url + "/metrics", trust_env=False).text
            wait_until("overdue shows", lambda: int(re.search(
                r"^sandbox_deadline_overdue_ms (\d+)", httpx.get(stack.url + "/metrics", trust_env=False).text, re.M)[1]) > 50_000)
            assert "sandbox_queue_oldest_ms" in metrics
            fault_provider.faults()
    finally:
        redis.stop()


def test_doctor_without_database_and_redis_still_answers(fault_stack):
    stack = fault_stack()
    status, text = ask(stack, "sandbox-gateway", "doctor", REDIS_PORT=str(free_port()),
                       DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    assert status == 1
    assert {check for verdict, check, _ in findings(text) if verdict == "FAIL"} == {"postgresql", "redis"}, text


def test_the_schema_must_be_there(fault_stack, postgres):
    stack = fault_stack()
    status, text = ask(stack, "sandbox-gateway", "doctor", DATABASE_URL=postgres.create_database(f"{stack.database}_empty"))
    postgres.sql(f'DROP DATABASE "{stack.database}_empty"')
    assert status == 1 and "run `sandbox-gateway migrate`" in text
