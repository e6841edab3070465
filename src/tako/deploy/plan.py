"""What a deploy would do, before anything is touched: for `--dry-run`, and to see that there is nothing to do. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tako.deploy.artifact import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What a server told about the app: the release that serves, those it has, a hash of its secrets, and the job
    that is under way."""

    name: str
    current: str | None
    known: frozenset[str]
    secrets_hash: str
    job: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """What would happen on one server."""

    name: str
    current: str | None
    release: str
    uploads: bool
    sends_secrets: bool
    runs_release_command: bool

    @property
    def is_nothing(self) -> bool:
        """Whether the server has all of it already, and serves it."""
        return self.current == self.release and not self.sends_secrets


def plan(
    artifact: Artifact, states: Sequence[ServerState], *, secrets_hash: str | None, release_command: str | None
) -> list[ServerPlan]:
    """One plan a server, in order: the first is the leader, which runs the release command."""
    return [
        ServerPlan(
            name=state.name,
            current=state.current,
            release=artifact.release,
            uploads=artifact.release not in state.known,
            sends_secrets=secrets_hash is not None and secrets_hash != state.secrets_hash,
            runs_release_command=release_command is not None and state is states[0],
        )
        for state in states
    ]


def document(plans: Sequence[ServerPlan], artifact: Artifact, *, routes: Sequence[str]) -> Mapping[str, object]:
    """The plan as --json prints it."""
    return {
        "release": artifact.release,
        "files": [{"path": file.path, "size": file.size} for file in artifact.files],
        "bytes": artifact.size,
        "routes": list(routes),
        "warnings": list(artifact.warnings),
        "servers": [
            {
                "server": each.name, "current": each.current, "uploads": each.uploads,
                "sends_secrets": each.sends_secrets, "runs_release_command": each.runs_release_command,
                "is_nothing": each.is_nothing,
            }
            for each in plans
        ],
    }  # fmt: skip
