"""REST: the account, the repository, its git objects, and its workflow runs with their artifacts."""

from __future__ import annotations

import base64
import time

from answers import repository, shape
from routes import Answer, Call, RefusedError, missing, page, repo_url, route
from world import git

LIMIT = 5000


@route("GET", "/user")
def get_user(call: Call) -> Answer:
    if call.token is None:
        raise RefusedError(401, "Requires authentication", status="401")
    if call.token.app:
        raise RefusedError(403, "Resource not accessible by integration", status="403")
    login = call.token.login
    return Answer(200, shape("private-user", login=login, id=call.world.number(login), type="User", user_view_type="private"))


@route("GET", "/rate_limit")
def get_rate_limit(call: Call) -> Answer:
    rate = {"limit": LIMIT, "remaining": LIMIT, "reset": int(time.time()) + 3600, "used": 0}
    return Answer(200, {"rate": rate, "resources": {"core": rate, "search": rate}})


@route("GET", "/repos")
def get_repository(call: Call) -> Answer:
    name = call.world.full_name
    plain = repository(name, call.world.number(name), call.api, call.web)
    told = ("id", "name", "full_name", "owner", "url", "html_url", "clone_url", "default_branch")
    return Answer(200, shape("full-repository", **{key: plain[key] for key in told}))


@route("GET", "/repos/git/ref/{ref+}")
def get_ref(call: Call) -> Answer:
    ref = f"refs/{call.part('ref')}"
    sha = git("rev-parse", "--verify", "--quiet", "--end-of-options", ref, cwd=call.world.git_folder(), check=False).strip()
    if not sha:
        raise missing()
    url = f"{repo_url(call)}/git/commits/{sha}"
    return Answer(
        200, shape("git-ref", ref=ref, url=f"{repo_url(call)}/git/{ref}", object={"type": "commit", "sha": sha, "url": url})
    )


@route("GET", "/repos/contents/{path+}")
def get_contents(call: Call) -> Answer:
    path, ref = call.part("path"), call.query.get("ref", "main")
    folder = call.world.git_folder()
    line = git("ls-tree", call.world.commit_of(ref) or "0" * 40, "--", path, cwd=folder, check=False)
    if not line or line.split()[1] != "blob":
        raise missing()
    sha = line.split()[2]
    text = git("cat-file", "blob", sha, cwd=folder).encode()
    said = {"name": path.rsplit("/", 1)[-1], "path": path, "sha": sha, "size": len(text), "encoding": "base64"}
    return Answer(200, shape("content-file", type="file", content=base64.b64encode(text).decode(), **said))


@route("GET", "/repos/actions/runs/{id}")
def get_run(call: Call) -> Answer:
    run = call.world.runs.get(int(call.part("id")))
    if run is None:
        raise missing()
    home = run.head_repository or call.world.full_name
    ours = home == call.world.full_name
    pulls = [pull for pull in call.world.pulls.values() if ours and pull.head_sha == run.head_sha and pull.state == "open"]
    minimal = [
        shape("pull-request-minimal", id=pull.number, number=pull.number, url=f"{repo_url(call)}/pulls/{pull.number}")
        for pull in pulls
    ]
    return Answer(
        200,
        shape(
            "workflow-run",
            id=run.id,
            head_sha=run.head_sha,
            head_branch=run.head_branch,
            event=run.event,
            run_attempt=run.attempt,
            status="completed",
            conclusion=run.conclusion,
            pull_requests=minimal,
            head_repository=shape("minimal-repository", full_name=home, name=home.split("/")[1], id=call.world.number(home)),
        ),
    )


@route("GET", "/repos/actions/runs/{id}/artifacts")
def list_artifacts(call: Call) -> Answer:
    found = [item for item in call.world.artifacts.values() if item.run == int(call.part("id"))]
    found = [item for item in found if call.query.get("name", item.name) == item.name]
    shown = []
    for item in found:
        url = f"{repo_url(call)}/actions/artifacts/{item.id}"
        said = {"id": item.id, "name": item.name, "size_in_bytes": len(item.data), "expired": item.expired}
        shown.append(shape("artifact", url=url, archive_download_url=f"{url}/zip", **said))
    return page(call, shown, "artifacts")


@route("GET", "/repos/actions/artifacts/{id}/zip")
def download_artifact(call: Call) -> Answer:
    item = call.world.artifacts.get(int(call.part("id")))
    if item is None:
        raise missing()
    if item.expired:
        raise RefusedError(410, "Artifact has expired")
    return Answer(302, None, {"location": f"{call.web}/_blobs/{item.id}.zip"})
