# Copyright The Smolotchi maintainers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: change
short_description: Install, upgrade or roll back Smolotchi on a node
version_added: 0.2.0
author:
  - The Smolotchi maintainers (@smolotchi)
description:
  - Runs C(smolotchi-install) on the node, which verifies the release, plans the change, keeps the way back, carries the change out,
    watches the new version, and takes the node back by itself when that isn't healthy.
  - The change goes on when the connection is lost or the controller dies. It ends in the new version or in the old one.
  - A node without C(smolotchi-install) gets it, and the archive keyring, from I(bootstrap), after the controller verified both.
  - A release that isn't healthy is a failed task with C(code) C(change.rolled-back), and the node is back on the version before.
    When an operator is needed on the node, C(code) is C(change.rollback-failed). Neither should be ignored.
options:
  state:
    description:
      - C(present) installs, and is content with any installed version unless I(version) names one.
      - C(latest) installs, or upgrades to the version that the channel names.
      - C(rolled_back) goes back to I(version), offline, from what the node keeps, with all rows.
    type: str
    choices: [present, latest, rolled_back]
    default: present
  source:
    description:
      - Where the release is. A URL, a folder or bundle on the node, or C(bundle:) and the path of a bundle on the controller,
        which is copied to the node for the task.
      - By default what the settings of C(smolotchi-install) on the node say.
    type: str
  channel:
    description:
      - The channel to follow. By default what the settings on the node say, else C(stable). A bundle is for one channel and says which.
    type: str
  version:
    description:
      - This version instead of the channel's. Required with I(state=rolled_back), so that a second run changes nothing.
    type: str
  trust:
    description:
      - Minisign public keys on the controller that the release must be signed with, instead of the keys that the node trusts.
      - Needed to bring C(smolotchi-install) to a node.
    type: list
    elements: str
    default: []
  bootstrap:
    description:
      - A release tree or a bundle on the controller, to bring C(smolotchi-install) from. By default the bundle of I(source).
    type: str
  accept_expired:
    description:
      - Take a channel although it has expired.
    type: bool
    default: false
  unblock:
    description:
      - Take a version although it failed on this node before, or was rolled back from.
    type: bool
    default: false
requirements:
  - "The program C(minisign) and Python 3.11 (or C(tomli)) on the controller, to bring C(smolotchi-install) to a node"
  - "Nothing on the node: no Python"
attributes:
  check_mode:
    description: Plans on the node, with everything verified, and touches nothing. C(changed) is what the plan says.
    support: full
  diff_mode:
    description: Versions and database schemas before and after.
    support: full
  platform:
    description: What the node may be.
    platforms: debian
    support: full
notes:
  - Needs root on the node, also in check mode of a rollback.
seealso:
  - module: smolotchi.node.status
"""

EXAMPLES = r"""
- name: Install Smolotchi from a release tree on the web, bringing the installer from a copy on the controller
  smolotchi.node.change:
    source: https://example.org/smolotchi
    bootstrap: /srv/smolotchi
    trust: [/etc/smolotchi-fleet/smolotchi.pub]

- name: Upgrade nodes without a network from a bundle on the controller
  smolotchi.node.change:
    state: latest
    source: bundle:/srv/smolotchi-0.2.0-arm64.bundle

- name: Go back to the version before
  smolotchi.node.change:
    state: rolled_back
    version: 0.1.0
"""

RETURN = r"""
installed:
  description: The installed version after the run, or null.
  returned: when smolotchi-install answered
  type: str
  sample: 0.2.0
plan:
  description: What the change would do.
  returned: in check mode, when there is something to do
  type: dict
report:
  description: What the change did, its verdict and evidence.
  returned: after a change
  type: dict
brought:
  description: The packages that were (in check mode, would be) brought to the node to install anything with.
  returned: when the node had no smolotchi-install
  type: list
  elements: dict
steps:
  description: What was done, one sentence for each step.
  returned: always
  type: list
  elements: str
code:
  description: The stable name of the failure, from the error catalogue.
  returned: failure
  type: str
  sample: change.rolled-back
reason:
  description: What could not be done, and why.
  returned: failure
  type: str
hint:
  description: What to do about it.
  returned: failure
  type: str
details:
  description: The facts.
  returned: failure
  type: dict
rc:
  description:
    - How smolotchi-install ended. 20 refused before anything was touched, 40 failed and safely back, 50 an operator is needed.
  returned: when it ran
  type: int
"""
