# Copyright The Smolotchi maintainers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks one node what runs there, what happened last, what it can go back to, and how exposed its services are. Changes nothing."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.smolotchi.node.plugins.plugin_utils import installer


class ActionModule(ActionBase):
    """The action behind smolotchi.node.status."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """The node's status; a node without the installer has one too."""
        result = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        said = self._low_level_execute_command("%s --format json status" % installer.PROGRAM)
        answer = installer.Answer(said["rc"], said["stdout"], said["stderr"])
        if answer.rc == installer.NOT_FOUND:
            result.update(changed=False, installer=False, status=dict(installed=None, state="no installer", blocked=[], slots=[]), exposure=[])
        elif answer.rc == 0 and answer.result is not None:
            result.update(changed=False, installer=True, status=answer.result, exposure=self.exposure())
        elif answer.error is not None:
            result.update(installer.settle(answer))
        else:
            # A status has no `changed`, so settling says that the answer can't be read.
            result.update(installer.settle(installer.Answer(answer.rc, answer.stdout if answer.result is None else "", answer.stderr)))
        return result

    def exposure(self):
        """What each service leaves open. A node without an agent, or with one that can't tell, has nothing to say."""
        said = self._low_level_execute_command("%s --format json doctor --security" % installer.AGENT)
        return installer.exposure_of(said["stdout"])
