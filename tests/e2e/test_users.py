"""Users and their limits over the API: the rules of the command, for admins only."""

from tests.harness.services import wait_until
from tests.harness.stack import BASE, PASSWORD, Client

USERS = "/api/v1/users"


def test_an_admin_makes_changes_and_limits_users(fault_stack):
    stack = fault_stack()
    admin, alice = stack.client("root", role="admin"), stack.client("alice")
    for method, path, body in (("GET", USERS, None), ("POST", USERS, {"username": "x", "password": PASSWORD}),
                               ("POST", f"{USERS}/change", {"username": "root", "disabled": True}),
                               ("POST", f"{USERS}/limits", {"username": "alice", "limits": {"max_sandboxes": 0}})):
        answer = alice.get(path) if method == "GET" else alice.post(path, body)
        assert answer.status_code == 403, answer.text
    made = admin.ok(admin.post(USERS, {"username": "nina", "password": PASSWORD}))
    assert made["role"] == "user" and made["disabled"] is False
    assert admin.post(USERS, {"username": "nina", "password": PASSWORD}).status_code == 409
    assert admin.post(USERS, {"username": "two words", "password": PASSWORD}).status_code == 400
    assert admin.post(USERS, {"username": "y", "password": "short"}).status_code == 400
    nina = Client(stack.url).login("nina")
    told = admin.ok(admin.post(f"{USERS}/limits", {"username": "nina", "limits": {"max_sandboxes": 1}}))["limits"]
    assert told["max_sandboxes"] == 1 and told["max_paused"] is None
    nina.create()
    assert nina.post(f"{BASE}/create", {"user_id": "u"}).json()["error"]["type"] == "quota_exceeded"
    admin.ok(admin.post(f"{USERS}/limits", {"username": "nina", "limits": {"max_sandboxes": None}}))
    nina.create()
    assert admin.ok(admin.post(f"{USERS}/change", {"username": "nina", "disabled": True}))["disabled"] is True
    wait_until("ended", lambda: nina.get(BASE).status_code == 401, 5)
    admin.ok(admin.post(f"{USERS}/change", {"username": "nina", "disabled": False, "password": "another one!"}))
    assert Client(stack.url).login("nina", "another one!").get(BASE).status_code == 200
    assert admin.post(f"{USERS}/change", {"username": "nobody"}).status_code == 404
    names, cursor = [], ""
    while True:
        page = admin.ok(admin.get(f"{USERS}?limit=2{cursor}"))
        names += [u["username"] for u in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert names == ["alice", "nina", "root"]
    assert PASSWORD not in str(stack.sql("select * from audit_log"))
