"""The few calls to the API server beside kopf's watches: one object at a time, and one list of each kind at the start.

Everything is JSON in and JSON out, without discovery and without the client's typed models, which are strict about
answers and slow to build. Reads by name are how a suspicion is confirmed before anything is done about it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client import ApiException
from kubernetes.aio.dynamic import DynamicClient

from resonance.model.resource import GROUP, PLURAL, VERSION, Name

FIELD_MANAGER = "resonance-operator"
POLICIES = f"/apis/{GROUP}/{VERSION}/{PLURAL}"
TIMEOUT_S = 20.0
Object = Mapping[str, Any]


class ApiFailed(Exception):
    """The API server did not do it. ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class Api:
    """The API server. Use as an async context manager."""

    def __init__(self, inner: client.ApiClient) -> None:
        self._inner = inner
        self._dynamic: Any = DynamicClient(inner)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Give the connections back."""
        await self._inner.close()  # type: ignore[no-untyped-call]

    async def _ask(self, method: str, path: str, **rest: Any) -> Any:
        try:
            answer = await self._dynamic.request(method, path, serialize=False, _request_timeout=TIMEOUT_S, **rest)
            return json.loads(await answer.read())
        except ApiException as error:
            raise ApiFailed(int(error.status or 0), f"{method} {path}: {error.status} {_reason(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiFailed(0, f"{method} {path}: no answer ({type(error).__name__})") from error

    async def _get(self, path: str) -> Object | None:
        try:
            found: Object = await self._ask("get", path)
        except ApiFailed as error:
            if error.status == 404:
                return None
            raise
        return found

    async def list_all(self, path: str) -> list[Object]:
        """Every object of one kind in the cluster, as the API server's cache has it. Only at the start."""
        found = await self._ask("get", path, resource_version="0")
        return list(found.get("items") or ())

    async def pod(self, namespace: str, name: str) -> Object | None:
        """The pod as it is now, None when there is none."""
        return await self._get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    async def node_answers(self, name: str) -> bool:
        """False when the node is gone or has not been heard of for the cluster's grace period."""
        found = await self._get(f"/api/v1/nodes/{quote(name)}")
        if found is None:
            return False
        ready = [each for each in found["status"].get("conditions") or () if each["type"] == "Ready"]
        return not ready or ready[0]["status"] != "Unknown"

    async def replica_set(self, namespace: str, name: str) -> Object | None:
        """A ReplicaSet that no Deployment owns."""
        return await self._get(f"/apis/apps/v1/namespaces/{namespace}/replicasets/{name}")

    async def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """The decoded keys of a Secret; what is not text is left out."""
        found = await self._get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        if found is None:
            return None
        out = {}
        for key, value in (found.get("data") or {}).items():
            raw = base64.b64decode(value)
            try:
                out[key] = raw.decode()
            except UnicodeDecodeError:
                continue
        return out

    async def cluster_id(self) -> str:
        """The uid of the namespace kube-system: every cluster has one, and it never changes."""
        found = await self._get("/api/v1/namespaces/kube-system")
        return str(found["metadata"]["uid"]) if found is not None else ""

    async def apply_status(self, name: Name, uid: str, status: Mapping[str, Any]) -> bool:
        """Write the whole status by server-side apply. False when that very policy is gone."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "ResonanceSnapshot",
            "metadata": {"name": name.name, "namespace": name.namespace, "uid": uid},
            "status": dict(status),
        }
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{name.namespace}/{PLURAL}/{name.name}/status"
        try:
            await self._ask(
                "patch",
                path,
                body=body,
                content_type="application/apply-patch+yaml",
                field_manager=FIELD_MANAGER,
                force_conflicts=True,
            )
        except ApiFailed as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def post_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """One Event; what fails here is only a message that nobody gets."""
        try:
            await self._ask("post", f"/api/v1/namespaces/{namespace}/events", body=dict(body))
        except ApiFailed:
            return


def _reason(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return str(error.reason or "no reason given")[:500]


async def connect() -> Api:
    """A client with the pod's service account, else with ``$KUBECONFIG``. Raises :class:`ApiFailed` if there is
    neither.
    """
    settings = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                client_configuration=settings, persist_config=False
            )
    except (config.ConfigException, OSError) as error:
        raise ApiFailed(0, "neither a service account nor $KUBECONFIG says where the API server is.") from error
    settings.retries = 0
    return Api(client.ApiClient(configuration=settings))


def from_thread(loop: asyncio.AbstractEventLoop, asked: Any) -> Any:
    """Wait in a worker thread for a coroutine of the loop; raises what it raises."""
    return asyncio.run_coroutine_threadsafe(asked, loop).result(TIMEOUT_S + 5)
