"""What schemathesis cannot know from /openapi.json: the token, and rules between fields."""

import os
import uuid

import schemathesis


@schemathesis.auth()
class Token:
    """As its own provider of tokens, so that it can also leave the header out."""

    def get(self, case, context):
        return os.environ["TOKEN"]

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = "Bearer " + data


@schemathesis.hook
def before_call(context, case, **kwargs):
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())  # one key, one request
    if case.query:
        case.query.pop("cursor", None)  # only those that were given out are taken
    if isinstance(case.body, dict):
        case.body.pop("cursor", None)
        if case.path.endswith("/expose-port"):  # SANDBOX_PORTS=direct takes neither
            case.body.pop("expires_in_seconds", None)
            case.body.pop("visibility", None)
        for name in ("encoding", "path_encoding"):
            if case.body.get(name) == "base64":
                case.body[name] = "utf-8"  # content would have to be base64
        if isinstance(case.body.get("sandbox_template_id"), str):
            case.body["sandbox_template_id"] = "base"  # the provider judges names
