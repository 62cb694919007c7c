"""REST: pull requests and the comments on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from answers import MOMENT, repository, shape, user
from routes import Answer, Call, RefusedError, commit, invalid, missing, page, repo_url, route

if TYPE_CHECKING:
    from world import Comment, Pull

COMMENT_LIMIT = 65_536


def pull_json(call: Call, pull: Pull, name: str = "pull-request-simple") -> dict[str, Any]:
    def side(full_name: str, branch: str, sha: str) -> dict[str, Any]:
        owner = full_name.split("/", maxsplit=1)[0]
        home = repository(full_name, call.world.number(full_name), call.api, call.web)
        return {
            "label": f"{owner}:{branch}",
            "ref": branch,
            "sha": sha,
            "repo": home,
            "user": user(owner, call.world.number(owner)),
        }

    base = call.world.commit_of(pull.base) or "0" * 40
    return shape(
        name,
        id=pull.number,
        number=pull.number,
        state=pull.state,
        title=pull.title,
        locked=pull.locked,
        url=f"{repo_url(call)}/pulls/{pull.number}",
        html_url=f"{call.web}/{call.world.full_name}/pull/{pull.number}",
        head=side(pull.head_repository, pull.head_branch, pull.head_sha),
        base=side(call.world.full_name, pull.base, base),
        user=user(pull.head_repository.split("/")[0], 7),
    )


@route("GET", "/repos/pulls")
def list_pulls(call: Call) -> Answer:
    state, head = call.query.get("state", "open"), call.query.get("head", "")
    pulls = [
        pull
        for pull in call.world.pulls.values()
        if state in {"all", pull.state}
        and head in {"", f"{pull.head_repository.split('/')[0]}:{pull.head_branch}"}
        and call.query.get("base", pull.base) == pull.base
    ]
    newest_first = call.query.get("direction", "desc") == "desc"
    pulls.sort(key=lambda pull: pull.number, reverse=newest_first)
    return page(call, [pull_json(call, pull) for pull in pulls])


@route("GET", "/repos/pulls/{number}")
def get_pull(call: Call) -> Answer:
    pull = call.world.pulls.get(int(call.part("number")))
    if pull is None:
        raise missing()
    return Answer(200, pull_json(call, pull, "pull-request"))


@route("GET", "/repos/commits/{sha}/pulls")
def list_pulls_of_commit(call: Call) -> Answer:
    """The commit of a fork's pull request belongs to none here: that is how GitHub answers."""
    sha = commit(call, call.part("sha"))
    pulls = [
        pull for pull in call.world.pulls.values() if pull.head_sha == sha and pull.head_repository == call.world.full_name
    ]
    return page(call, [pull_json(call, pull) for pull in pulls])


def comment_json(call: Call, comment: Comment) -> dict[str, Any]:
    pull_url = f"{call.web}/{call.world.full_name}/pull/{comment.pull}"
    slug = comment.login.removesuffix("[bot]")
    app = (
        shape("nullable-integration", id=comment.app, slug=slug, name=slug, owner=user(slug, call.world.number(slug)))
        if comment.app
        else None
    )
    return shape(
        "issue-comment",
        id=comment.id,
        body=comment.body,
        user=user(comment.login, call.world.number(comment.login)),
        url=f"{repo_url(call)}/issues/comments/{comment.id}",
        html_url=f"{pull_url}#issuecomment-{comment.id}",
        issue_url=f"{repo_url(call)}/issues/{comment.pull}",
        author_association="NONE",
        performed_via_github_app=app,
        created_at=MOMENT,
        updated_at=MOMENT,
    )


def comment_body(call: Call) -> str:
    body = call.body.get("body") if isinstance(call.body, dict) else None
    if not isinstance(body, str) or not body.strip():
        raise invalid("IssueComment", "Body can't be blank", "body")
    if len(body) > COMMENT_LIMIT:
        raise invalid("IssueComment", f"Body is too long (maximum is {COMMENT_LIMIT} characters)")
    return body


def pull_of(call: Call) -> Pull:
    pull = call.world.pulls.get(int(call.part("number")))
    if pull is None:
        raise missing()
    return pull


def comment_of(call: Call) -> Comment:
    comment = call.world.comments.get(int(call.part("id")))
    if comment is None:
        raise missing()
    return comment


@route("GET", "/repos/issues/{number}/comments")
def list_comments(call: Call) -> Answer:
    number = pull_of(call).number
    return page(call, [comment_json(call, item) for _, item in sorted(call.world.comments.items()) if item.pull == number])


@route("POST", "/repos/issues/{number}/comments", "issues", "pull_requests")
def create_comment(call: Call) -> Answer:
    pull = pull_of(call)
    if pull.locked:
        raise RefusedError(403, "Unable to create comment because issue is locked.", status="403")
    assert call.token is not None
    comment = call.world.say(pull.number, call.token.login, comment_body(call), call.token.app)
    return Answer(201, comment_json(call, comment))


@route("GET", "/repos/issues/comments/{id}")
def get_comment(call: Call) -> Answer:
    return Answer(200, comment_json(call, comment_of(call)))


@route("PATCH", "/repos/issues/comments/{id}", "issues", "pull_requests")
def edit_comment(call: Call) -> Answer:
    comment = comment_of(call)
    comment.body = comment_body(call)
    comment.edits += 1
    return Answer(200, comment_json(call, comment))


@route("DELETE", "/repos/issues/comments/{id}", "issues", "pull_requests")
def delete_comment(call: Call) -> Answer:
    del call.world.comments[comment_of(call).id]
    return Answer(204)
