"""Create exactly once, and the sweep that finds what no job can: copies that appear late, sandboxes
the provider lost, states that differ."""

from tests.harness.stack import Stack


def creates_at(provider) -> int:
    return sum(1 for e in provider.effects() if e["effect"] == "create")


def live(provider) -> dict[str, str]:
    """provider id -> our sandbox id"""
    return {pid: s["metadata"].get("sandbox_id", "") for pid, s in provider.state()["sandboxes"].items()}


def named(stack: Stack) -> dict[str, str]:
    return dict(stack.sql("select provider_sandbox_id, id::text from sandboxes where status not in ('deleted', 'failed')"))


# ---- create exactly once ---------------------------------------------------------------------

def test_each_create_that_went_out_gets_its_own_time_to_appear(fault_stack, fault_provider):
    """The second create is the lost one: the time the first had been given says nothing about it."""
    stack = fault_stack(env={"SANDBOX_SETTLE_MS": "2000"})
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "reset_before", "times": 1},
                          {"route": "create", "mode": "late", "delay_ms": 1200, "times": 1})
    data = client.create()
    stack.quiet()
    assert fault_provider.state()["calls"]["create"] == 2 and creates_at(fault_provider) == 1
    assert live(fault_provider) == {data["provider_sandbox_id"]: data["sandbox_id"]} == named(stack)
