# Copyright The Smolotchi maintainers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: status
short_description: What runs on a node, what happened last, what it can go back to, and how exposed it is
version_added: 0.2.0
author:
  - The Smolotchi maintainers (@smolotchi)
description:
  - Asks C(smolotchi-install) on the node, and C(smolotchi doctor --security). Changes nothing, needs root there and no Python.
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

- name: Demand that no service has more than it may have
  ansible.builtin.assert:
    that: node.exposure | rejectattr("state", "equalto", "ok") | list | length == 0
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
exposure:
  description: How exposed each service is, by C(systemd-analyze security) in exact points; empty where the agent can't tell.
  returned: success
  type: list
  elements: dict
  contains:
    unit:
      description: The service.
      type: str
    points:
      description: What it has, of 56460.
      type: int
    threshold:
      description: What it may have at most.
      type: int
    delta:
      description: Points more (or less) than in the release before; null if it is new.
      type: int
    last_release:
      description: The release before.
      type: str
    state:
      description: C(ok), or C(warning) if it has more than it may have.
      type: str
    detail:
      description: The node's own words, with what is open and the drop-ins that no package brought.
      type: str
"""
