# Copyright The Smolotchi maintainers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out one change on one node: runs smolotchi-install there through the connection, and brings it there first when
it is missing. Decides nothing that smolotchi-install can decide. Needs no Python on the node.
"""

from __future__ import annotations

import os
import tempfile

from ansible.plugins.action import ActionBase
from ansible_collections.smolotchi.node.plugins.plugin_utils import installer, release_tree
from ansible_collections.smolotchi.node.plugins.plugin_utils.installer import Answer
from ansible_collections.smolotchi.node.plugins.plugin_utils.release_tree import Refused

BUNDLE = "bundle:"

# What a node needs before it can install anything else, in the order in which it is copied.
BROUGHT = ("smolotchi-archive-keyring", "smolotchi-install")

ARGUMENTS = dict(
    state=dict(type="str", choices=["present", "latest", "rolled_back"], default="present"),
    source=dict(type="str"),
    channel=dict(type="str"),
    version=dict(type="str"),
    trust=dict(type="list", elements="str", default=[]),
    bootstrap=dict(type="str"),
    accept_expired=dict(type="bool", default=False),
    unblock=dict(type="bool", default=False),
)


class ActionModule(ActionBase):
    """The action behind smolotchi.node.change."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        """Runs the change; a refusal on the controller looks like one on the node."""
        result = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(argument_spec=ARGUMENTS, required_if=[("state", "rolled_back", ("version",))])
        self._uploaded = {}
        try:
            if args["state"] == "rolled_back":
                result.update(self._rolled_back(args))
            else:
                result.update(self._present(args))
        except Refused as refused:
            result.update(installer.failure(refused.code, refused.reason, refused.hint, refused.details))
        if self._task.diff and not result.get("failed"):
            result["diff"] = installer.diff(result)
        return result

    def _rolled_back(self, args):
        answer = self._call(["rollback", "--to", args["version"]] + self._dry_run())
        if answer.rc == installer.NOT_FOUND:
            raise Refused("change.not-installed", "smolotchi-install is not on this node, so there is nothing to go back to",
                          "install it first: smolotchi.node.install")
        return installer.settle(answer)

    def _present(self, args):
        options = self._release_options(args)
        brought, program = [], installer.PROGRAM
        answer = self._call(["install"] + options)
        if answer.rc == installer.NOT_FOUND:
            brought, program = self._bring(args)
            answer = self._call(["install"] + options, program)
        if answer.code == "change.already-installed":
            if args["state"] == "present" and args["version"] is None:
                installed = (answer.error.get("details") or {}).get("installed")
                return dict(changed=False, rc=0, installed=installed, msg="nothing to do: %s is installed" % installed)
            answer = self._call(["upgrade"] + options, program)
        result = installer.settle(answer)
        if brought:
            result["brought"] = brought
            if not result.get("failed"):
                result["changed"] = True
        return result

    def _dry_run(self):
        return ["--dry-run"] if self._task.check_mode else []

    def _release_options(self, args):
        """The options that install and upgrade share; what they name on the controller is brought to the node."""
        words = []
        source = args["source"]
        if source is not None:
            if source.startswith(BUNDLE):
                source = self._upload(local(source[len(BUNDLE):]), "release.bundle")
            words += ["--from", source]
        for name in ("channel", "version"):
            if args[name] is not None:
                words += ["--to" if name == "version" else "--channel", args[name]]
        for number, key in enumerate(args["trust"]):
            words += ["--trust", self._upload(local(key), "trust-%d.pub" % number)]
        for name in ("accept_expired", "unblock"):
            if args[name]:
                words.append("--" + name.replace("_", "-"))
        return words + self._dry_run()

    def _bring(self, args):
        """Brings keyring and installer to the node: verified here, installed by apt there. In check mode apt simulates, and
        the installer is only unpacked to the task's temporary folder. Returns what was brought, and the program to call.
        """
        source = args["bootstrap"]
        if source is None and (args["source"] or "").startswith(BUNDLE):
            source = args["source"][len(BUNDLE):]
        if source is None:
            raise Refused("dependency.program-missing", "smolotchi-install is not on this node, and there is nothing to bring it from",
                          "name a release tree or a bundle of the controller in smolotchi_bootstrap")
        architecture = self._demand(["dpkg", "--print-architecture"], "this node has no dpkg, or it doesn't work").strip()
        tree = release_tree.open_tree(local(source))
        keys = [local(key) for key in args["trust"]]
        document = release_tree.manifest(tree, args["channel"], args["version"], keys, args["accept_expired"])
        brought, paths = [], []
        for name in BROUGHT:
            entry, content = release_tree.package(tree, document, name, architecture)
            with tempfile.NamedTemporaryFile(prefix="smolotchi-", suffix=".deb") as file:
                file.write(content)
                file.flush()
                paths.append(self._upload(file.name, os.path.basename(entry["path"])))
            brought.append(dict(package=name, version=entry["version"]))
        # apt, because it refuses before it touches anything when something is missing; without writing its caches anew.
        words = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "apt-get", "-q", "-y", "--no-install-recommends",
                 "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "DPkg::Lock::Timeout=900"]
        if self._task.check_mode:
            self._demand(words + ["--simulate", "install"] + paths, "apt would not install the installer's packages")
            return brought, paths[-1]
        self._demand(words + ["install"] + paths, "apt could not install the installer's packages")
        return brought, installer.PROGRAM

    def _call(self, words, program=installer.PROGRAM):
        """Runs smolotchi-install on the node; `program` may be a package that it is in."""
        quoted = " ".join(self._connection._shell.quote(word) for word in ["--format", "json"] + words)
        if program.endswith(".deb"):
            package = self._connection._shell.quote(program)
            folder = self._connection._shell.quote(os.path.dirname(program) + "/unpacked")
            script = "trap 'rm -rf -- %s' EXIT; dpkg-deb -x %s %s && %s/usr/bin/%s %s" % (
                folder, package, folder, folder, installer.PROGRAM, quoted)
            command = "sh -c %s" % self._connection._shell.quote(script)
        else:
            command = "%s %s" % (program, quoted)
        said = self._low_level_execute_command(command)
        return Answer(said["rc"], said["stdout"], said["stderr"])

    def _demand(self, words, otherwise):
        """Runs a program on the node that must succeed; its standard output."""
        said = self._low_level_execute_command(" ".join(self._connection._shell.quote(word) for word in words))
        if said["rc"] != 0:
            raise Refused("dependency.program-failed", otherwise, "the details hold what the program said; nothing else was done",
                          rc=said["rc"], said="\n".join((said["stdout"] + said["stderr"]).strip().splitlines()[-10:]))
        return said["stdout"]

    def _upload(self, path, name):
        """Copies a file of the controller to the task's temporary folder on the node, once; it goes with the task."""
        if path in self._uploaded:
            return self._uploaded[path]
        if not os.path.isfile(path):
            raise Refused("source.unreachable", "a file that is to be copied to the node is not on the controller",
                          "name a file of the controller", path=path)
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        target = self._connection._shell.join_path(folder, name)
        self._transfer_file(path, target)
        self._fixup_perms2([folder, target])
        self._uploaded[path] = target
        return target


def local(path):
    """A path of the controller."""
    return os.path.abspath(os.path.expanduser(path))
