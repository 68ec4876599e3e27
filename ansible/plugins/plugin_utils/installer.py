# Copyright The Smolotchi maintainers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What smolotchi-install says, as values, and what that means for Ansible. Pure: nothing here runs or connects.

The contract is smolotchi-install's: with --format json, progress lines and a last line {"event":"result",…} on standard
output, a fault as {"error":{code,message,hint,details}} on standard error, and the exit codes below. Over a terminal both
come in one stream, so both are looked for in both.
"""

from __future__ import annotations

import json

PROGRAM = "smolotchi-install"

# Says how exposed its services are.
AGENT = "smolotchi"

# A shell's word for a program that isn't there.
NOT_FOUND = 127

# exit code: (code, hint), for ends that come with a report instead of a fault.
ENDS = {
    10: ("change.task-failed", "nothing was changed, or it was undone; see on the node: smolotchi-install status"),
    40: ("change.rolled-back", "the version is blocked on this node; see there: smolotchi-install status"),
    50: ("change.rollback-failed", "an operator is needed on this node; see there: smolotchi-install status, "
                                   "journalctl -u smolotchi-install-change"),
}


class Answer:
    """One run of smolotchi-install."""

    def __init__(self, rc, stdout="", stderr=""):
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr
        self.steps = []
        self.result = None
        self.error = None
        for line in (stdout + "\n" + stderr).splitlines():
            document = document_of(line)
            if document is None:
                continue
            if isinstance(document.get("error"), dict):
                self.error = document["error"]
            elif document.get("event") == "step":
                self.steps.append(str(document.get("detail", "")))
            else:
                self.result = document

    @property
    def code(self):
        """The fault's code, if it ended in one."""
        return self.error.get("code") if self.error else None


def exposure_of(stdout):
    """The services in smolotchi doctor's checklist, each with its points; whatever else it says is left out."""
    rows = []
    for line in stdout.splitlines():
        document = document_of(line) or {}
        checks = document.get("checks")
        for check in checks if isinstance(checks, list) else []:
            figures = check.get("exposure") if isinstance(check, dict) else None
            if isinstance(figures, dict):
                row = dict((name, figures.get(name)) for name in ("unit", "points", "threshold", "delta", "last_release"))
                row["state"] = check.get("state")
                row["detail"] = check.get("detail")
                rows.append(row)
    return rows


def document_of(line):
    """A line as a JSON object, or None."""
    line = line.strip()
    if not line.startswith("{"):
        return None
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def failure(code, reason, hint, details=None, rc=None, **more):
    """How every failure of this collection looks to Ansible."""
    message = "[%s] %s" % (code, reason)
    for name, value in (details or {}).items():
        message += "; %s: %s" % (name, value)
    result = dict(failed=True, changed=False, code=code, reason=reason, hint=hint, details=details or {}, msg="%s. Hint: %s" % (message, hint))
    if rc is not None:
        result["rc"] = rc
    result.update(more)
    return result


def settle(answer):
    """The result for Ansible of a run that made, or planned, a change."""
    common = dict(rc=answer.rc, steps=answer.steps)
    if answer.error is not None:
        error = answer.error
        return failure(str(error.get("code")), str(error.get("message")), str(error.get("hint")), error.get("details"), **common)
    if answer.result is None or not isinstance(answer.result.get("changed"), bool):
        return failure("node.no-answer", "smolotchi-install ended with %d and without an answer that can be read" % answer.rc,
                       "see stdout and stderr of this result; is %s on the node one that this collection knows?" % PROGRAM,
                       stdout=answer.stdout, stderr=answer.stderr, **common)
    result = answer.result
    common.update({name: result[name] for name in ("installed", "plan", "report") if name in result})
    report = result.get("report") or {}
    if answer.rc != 0:
        code, hint = ENDS.get(answer.rc, ("node.unknown-end", "see on the node: smolotchi-install status"))
        reason = str(report.get("reason", "smolotchi-install ended with %d" % answer.rc))
        if answer.rc == 40:
            reason = "%s; the node is safely back on %s" % (reason, result.get("installed") or "what it was")
        return failure(code, reason, hint, **common)
    return dict(common, changed=result["changed"], msg=sentence(result))


def sentence(result):
    """What a good end means, for people."""
    plan, report = result.get("plan"), result.get("report")
    if plan:
        return "would %s: %s -> %s" % (plan.get("kind"), plan.get("from") or "nothing installed", plan.get("to"))
    if report:
        return "%s: %s -> %s, %s" % (report.get("kind"), report.get("from") or "nothing installed", report.get("to"), report.get("verdict"))
    return "nothing to do: %s is installed" % (result.get("installed") or "nothing")


def diff(result):
    """Before and after, for --diff."""
    plan, report = result.get("plan") or {}, result.get("report") or {}
    before, after = (plan or report).get("from"), (plan or report).get("to")
    if not result.get("changed"):
        before = after = result.get("installed")

    def text(version, schema):
        lines = ["smolotchi: %s" % (version or "not installed")]
        if schema is not None:
            lines.append("schema: %s" % schema)
        return "".join(line + "\n" for line in lines)

    return dict(before_header="smolotchi", after_header="smolotchi",
                before=text(before, plan.get("schema_from")), after=text(after, plan.get("schema_to")))
