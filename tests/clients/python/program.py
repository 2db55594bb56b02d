"""The client that openapi-python-client makes of /openapi.json: create, run-cmd, delete.

    program.py FOLDER_OF_THE_CLIENT URL TOKEN
"""

import sys
import uuid

sys.path.insert(0, sys.argv[1])
from sandbox_server_client import AuthenticatedClient  # noqa: E402
from sandbox_server_client.api.lifecycle import create, delete  # noqa: E402
from sandbox_server_client.api.work import run_cmd  # noqa: E402
from sandbox_server_client.models import CreateBody, RunCmdBody  # noqa: E402

headers = {"User-Agent": "generated-python/1.0", "X-Request-ID": str(uuid.uuid4())}
with AuthenticatedClient(base_url=sys.argv[2], token=sys.argv[3], headers=headers, timeout=60.0) as client:
    made = create.sync(client=client, body=CreateBody(user_id="generated"))
    assert made.code == 200 and made.data.status == "running", made
    ran = run_cmd.sync(client=client, body=RunCmdBody(sandbox_id=made.data.sandbox_id, command="echo from Python"))
    assert ran.data.success is True and ran.data.output == "from Python\n" and ran.data.exit_code == 0, ran
    gone = delete.sync(client=client, id=made.data.sandbox_id)
    assert gone.data.status == "deleted", gone
    refused = run_cmd.sync(client=client, body=RunCmdBody(sandbox_id=made.data.sandbox_id, command="true"))
    assert refused.error.type_ == "sandbox_not_found", refused
print("ok")
