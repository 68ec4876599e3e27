# Copyright The Smolotchi maintainers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: status
short_description: What runs on a node, what happened last, and what it can go back to
version_added: 0.2.0
author:
  - The Smolotchi maintainers (@smolotchi)
description:
  - Asks C(smolotchi-install) on the node. Changes nothing, needs root there and no Python.
options: {}
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  platform:
    description: What the node may be.
    platforms: debian
    support: full
seealso:
  - module: smolotchi.node.change
"""

EXAMPLES = r"""
- name: Ask every node
  smolotchi.node.status:
  register: node

- name: Demand one version everywhere
  ansible.builtin.assert:
    that: node.status.installed == "0.2.0"
"""

RETURN = r"""
installer:
  description: Whether smolotchi-install is on the node.
  returned: success
  type: bool
status:
  description: What smolotchi-install status says.
  returned: success
  type: dict
  contains:
    installed:
      description: The installed version, or null.
      type: str
    state:
      description: C(idle), or what an open change is doing.
      type: str
    last_change:
      description: The report of the newest closed change.
      type: dict
    blocked:
      description: The versions kept out of this node, each with its reason.
      type: list
      elements: dict
    slots:
      description: The versions that can be gone back to, newest first.
      type: list
      elements: dict
"""
