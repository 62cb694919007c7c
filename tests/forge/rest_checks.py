"""REST: check runs and commit statuses."""

from __future__ import annotations

from typing import Any

from answers import MOMENT, shape, user
from routes import Answer, Call, RefusedError, commit, invalid, missing, page, repo_url, route
from world import Check, Status

CHECK_TEXT_LIMIT = 65_535
ANNOTATION_LIMIT = 50


def check_json(call: Call, check: Check) -> dict[str, Any]:
    url = f"{repo_url(call)}/check-runs/{check.id}"
    output = {"title": check.title, "summary": check.summary, "text": check.text}
    said = {"id": check.id, "name": check.name, "head_sha": check.head_sha, "external_id": check.external_id}
    return shape(
        "check-run",
        url=url,
        html_url=f"{call.web}/{call.world.full_name}/runs/{check.id}",
        details_url=check.details_url,
        status=check.status,
        conclusion=check.conclusion,
        started_at=MOMENT,
        completed_at=MOMENT if check.status == "completed" else None,
        check_suite={"id": check.app},
        app=shape("nullable-integration", id=check.app, slug=f"app-{check.app}", owner=user("app-owner", 9)),
        output={**output, "annotations_count": len(check.annotations), "annotations_url": f"{url}/annotations"},
        **said,
    )


def take_output(call: Call, check: Check) -> None:
    """Take what a body says of a check run. Annotations are appended: that is how GitHub does it."""
    output = call.body.get("output", {})
    annotations = output.get("annotations", [])
    if len(annotations) > ANNOTATION_LIMIT:
        raise RefusedError(
            422, f"Invalid request.\n\nNo more than {ANNOTATION_LIMIT} items are allowed; {len(annotations)} were supplied."
        )
    for name in ("summary", "text"):
        if len(output.get(name) or "") > CHECK_TEXT_LIMIT:
            raise RefusedError(
                422, f"Invalid request.\n\nOnly {CHECK_TEXT_LIMIT} characters are allowed; {len(output[name])} were supplied."
            )
    if call.body.get("status") == "completed" and not call.body.get("conclusion"):
        raise RefusedError(422, 'Invalid request.\n\n"conclusion" wasn\'t supplied.')
    for name in ("name", "external_id", "details_url", "status", "conclusion"):
        if name in call.body:
            setattr(check, name, call.body[name])
    for name in ("title", "summary", "text"):
        if name in output:
            setattr(check, name, output[name])
    if "conclusion" in call.body:
        check.status = "completed"
    elif check.status != "completed":
        check.conclusion = None
    check.annotations += annotations


@route("POST", "/repos/check-runs", "checks")
def create_check(call: Call) -> Answer:
    assert call.token is not None
    check = Check(next(call.world.ids), call.token.app, call.body["name"], commit(call, call.body["head_sha"]))
    take_output(call, check)
    call.world.checks[check.id] = check
    return Answer(201, check_json(call, check))


def check_of(call: Call) -> Check:
    check = call.world.checks.get(int(call.part("id")))
    if check is None:
        raise missing()
    return check


@route("GET", "/repos/check-runs/{id}")
def get_check(call: Call) -> Answer:
    return Answer(200, check_json(call, check_of(call)))


@route("PATCH", "/repos/check-runs/{id}", "checks")
def update_check(call: Call) -> Answer:
    check = check_of(call)
    assert call.token is not None
    if check.app != call.token.app:
        message = f"Invalid app_id `{call.token.app}` - check run can only be modified by the GitHub App that created it."
        raise RefusedError(403, message, status="403")
    take_output(call, check)
    return Answer(200, check_json(call, check))


@route("GET", "/repos/check-runs/{id}/annotations")
def list_annotations(call: Call) -> Answer:
    check = check_of(call)
    return page(call, [shape("check-annotation", **item) for item in check.annotations])


@route("GET", "/repos/commits/{ref+}/check-runs")
def list_checks(call: Call) -> Answer:
    sha = commit(call, call.part("ref"))
    checks = [check for check in call.world.checks.values() if check.head_sha == sha]
    checks = [check for check in checks if call.query.get("check_name", check.name) == check.name]
    checks = [check for check in checks if call.query.get("app_id", str(check.app)) == str(check.app)]
    checks = [check for check in checks if call.query.get("status", check.status) == check.status]
    if call.query.get("filter", "latest") == "latest":
        checks = list({(check.app, check.name): check for check in sorted(checks, key=lambda check: check.id)}.values())
    newest_first = sorted(checks, key=lambda check: -check.id)
    return page(call, [check_json(call, check) for check in newest_first], "check_runs")


def status_json(call: Call, status: Status, name: str = "status") -> dict[str, Any]:
    return shape(
        name,
        id=status.id,
        url=f"{repo_url(call)}/statuses/{status.sha}",
        state=status.state,
        context=status.context,
        description=status.description,
        target_url=status.target_url,
        created_at=MOMENT,
        updated_at=MOMENT,
        **({"creator": user(status.login, call.world.number(status.login))} if name == "status" else {}),
    )


@route("POST", "/repos/statuses/{sha}", "statuses")
def create_status(call: Call) -> Answer:
    sha = call.part("sha")
    if call.world.commit_of(sha) != sha:
        raise RefusedError(422, f"No commit found for SHA: {sha}")
    said = {name: call.body[name] for name in ("state", "context", "description", "target_url") if name in call.body}
    if len(said.get("description") or "") > 140:
        raise invalid("Status", "description is too long (maximum is 140 characters)", "description")
    assert call.token is not None
    status = Status(next(call.world.ids), sha, call.token.login, **said)
    call.world.statuses.append(status)
    return Answer(201, status_json(call, status))


def statuses_of(call: Call) -> list[Status]:
    sha = commit(call, call.part("ref"))
    return [status for status in reversed(call.world.statuses) if status.sha == sha]


@route("GET", "/repos/commits/{ref+}/statuses")
def list_statuses(call: Call) -> Answer:
    return page(call, [status_json(call, status) for status in statuses_of(call)])


@route("GET", "/repos/commits/{ref+}/status")
def get_combined_status(call: Call) -> Answer:
    newest = {status.context: status for status in reversed(statuses_of(call))}
    states = {status.state for status in newest.values()}
    state = "failure" if states & {"error", "failure"} else "pending" if not states or "pending" in states else "success"
    name = call.world.full_name
    home = shape("minimal-repository", id=call.world.number(name), full_name=name, name=name.split("/")[1])
    statuses = [status_json(call, status, "simple-commit-status") for status in newest.values()]
    sha = commit(call, call.part("ref"))
    url = f"{repo_url(call)}/commits/{sha}"
    return Answer(
        200,
        shape(
            "combined-commit-status",
            state=state,
            sha=sha,
            total_count=len(statuses),
            statuses=statuses,
            repository=home,
            commit_url=url,
            url=f"{url}/status",
        ),
    )
