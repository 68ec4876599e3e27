# Copyright The Smolotchi maintainers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and verifies a release tree or bundle on the controller, as far as bringing the installer to a node needs it.

Called by the change action only. Everything else is verified on the node, by smolotchi-install itself. Nothing is believed
before its minisign signature holds: signatures are checked by the program minisign, never here.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile

try:
    import tomllib
except ImportError:
    try:
        import tomli as tomllib
    except ImportError:
        tomllib = None

# A signed document is at most this long, a signature at most that.
DOCUMENT_LIMIT = 1 << 20
SIGNATURE_LIMIT = 4 << 10

VERSION = re.compile(r"[0-9][0-9A-Za-z.+~-]*")
CHANNEL = re.compile(r"[a-z][a-z0-9-]*")
POOL_PATH = re.compile(r"pool/[A-Za-z0-9][A-Za-z0-9.+~_-]*\.deb")


class Refused(Exception):
    """Something that can't be done, told like smolotchi-install tells it: code, reason, hint, facts."""

    def __init__(self, code, reason, hint, **details):
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.hint = hint
        self.details = details


class Folder:
    """A release tree in a folder of the controller."""

    def __init__(self, path):
        self.path = path

    def read(self, name, limit):
        """The bytes of a file, or None when it isn't there."""
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return bounded(file.read(limit + 1), name, limit)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unreadable(self.path, error) from error

    def channel(self, wanted):
        """The channel to look at."""
        return wanted


class Bundle:
    """A bundle: the same paths in one uncompressed tar, for one channel."""

    def __init__(self, path):
        self.path = path

    def read(self, name, limit):
        """The bytes of a file, or None when it isn't there."""
        try:
            with tarfile.open(self.path, "r:") as tar:
                member = next((member for member in tar if member.name == name), None)
                if member is None:
                    return None
                if not member.isreg() or member.size > limit:
                    raise Refused("release.bundle-invalid", "a file in the bundle is not what it should be",
                                  "copy the bundle again; it is damaged or not a bundle", bundle=self.path, file=name)
                return bounded(tar.extractfile(member).read(limit + 1), name, limit)
        except (OSError, tarfile.TarError) as error:
            raise unreadable(self.path, error) from error

    def channel(self, wanted):
        """A bundle is for one channel and says which."""
        try:
            with tarfile.open(self.path, "r:") as tar:
                names = [member.name for member in tar]
        except (OSError, tarfile.TarError) as error:
            raise unreadable(self.path, error) from error
        found = [match.group(1) for match in (re.fullmatch(r"channels/([^/]+)\.toml", name) for name in names) if match]
        return found[0] if len(found) == 1 else wanted


def unreadable(path, error):
    """A source on the controller that can't be read."""
    return Refused("source.unreachable", "the release can't be read on the controller",
                   "name a release tree (a folder) or a bundle that is on the controller", path=path, cause=str(error))


def bounded(content, name, limit):
    """The content, or a refusal when it is longer than the limit."""
    if len(content) > limit:
        raise Refused("release.file-mismatch", "a file of the release is longer than it may be",
                      "fetch it again from a place that you trust", path=name, limit=limit)
    return content


def open_tree(path):
    """A folder or a bundle of the controller."""
    if os.path.isdir(path):
        return Folder(path)
    if os.path.isfile(path):
        return Bundle(path)
    raise Refused("source.unreachable", "the release that the installer is to be brought from is not on the controller",
                  "name a release tree (a folder) or a bundle that is on the controller", path=path)


def signed(tree, name, keys):
    """A document of the tree, after its signature held with one of the keys, as a dictionary and as bytes."""
    content = tree.read(name, DOCUMENT_LIMIT)
    if content is None:
        raise Refused("release.file-missing", "a file of the release is missing",
                      "the source is incomplete, or has no such channel or version", path=name, source=tree.path)
    signature = tree.read(name + ".minisig", SIGNATURE_LIMIT)
    if signature is None:
        raise Refused("release.signature-missing", "a document has no signature beside it",
                      "fetch the release again, whole; a .minisig stands beside every signed file", path=name, source=tree.path)
    check_signature(name, content, signature, keys)
    if tomllib is None:
        raise Refused("dependency.program-missing", "the controller's Python can't read TOML",
                      "use Python 3.11 or newer on the controller, or install tomli beside ansible-core")
    try:
        return tomllib.loads(content.decode("utf-8")), content
    except ValueError as error:
        raise not_understood(name, str(error)) from error


def check_signature(name, content, signature, keys):
    """Lets minisign judge private copies, so that what was judged is what is read."""
    if not keys:
        raise Refused("release.no-trusted-keys", "there is no key that the release could be verified with on the controller",
                      "name the minisign public keys that you trust in smolotchi_trust")
    for key in keys:
        if not os.path.isfile(key):
            raise Refused("release.no-trusted-keys", "a key that you trust is not on the controller",
                          "name files of the controller in smolotchi_trust", path=key)
    minisign = shutil.which("minisign")
    if minisign is None:
        raise Refused("dependency.program-missing", "the program minisign is missing on the controller",
                      "install it there (apt-get install minisign): without it the installer's packages can't be verified")
    said = []
    with tempfile.TemporaryDirectory(prefix="smolotchi-") as folder:
        document = os.path.join(folder, "document")
        for path, part in ((document, content), (document + ".minisig", signature)):
            with open(path, "wb") as file:
                file.write(part)
        for key in keys:
            # -H refuses signatures in minisign's legacy form.
            run = subprocess.run([minisign, "-V", "-H", "-q", "-p", key, "-m", document, "-x", document + ".minisig"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if run.returncode == 0:
                return
            said.append("%s: %s" % (key, run.stdout.decode("utf-8", "replace").strip().replace(folder + "/", "")))
    raise Refused("release.signature-invalid", "the signature holds with none of the keys that you trust",
                  "fetch the release again from a place that you trust, or name its key in smolotchi_trust",
                  path=name, minisign="; ".join(said))


def not_understood(name, cause):
    """A signed document of another kind."""
    return Refused("release.manifest-invalid", "a document is signed but not one that this collection understands",
                   "use the collection that was made with the release", path=name, cause=cause)


def expect(name, document, **wanted):
    """Refuses a signed document that is about something else."""
    for key, value in dict(wanted, product="smolotchi").items():
        if document.get(key) != value:
            raise not_understood(name, "%s is %r, not %r" % (key, document.get(key), value))


def manifest(tree, channel, version, keys, accept_expired):
    """The verified manifest of a version, or of what the channel names."""
    digest = None
    if version is None:
        wanted = tree.channel(channel or "stable")
        if not CHANNEL.fullmatch(wanted):
            raise Refused("release.channel-unknown", "this is not a channel's name", "name a channel that the source has", channel=wanted)
        name = "channels/%s.toml" % wanted
        document = signed(tree, name, keys)[0]
        expect(name, document, kind="smolotchi/channel/1", channel=wanted)
        expires = str(document.get("expires_at", ""))
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        # Both are UTC in one spelling, so that text compares as time does.
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", expires):
            raise not_understood(name, "expires_at is %r" % expires)
        if expires[:19] <= now[:19] and not accept_expired:
            raise Refused("release.channel-expired", "the channel has expired",
                          "refresh the copy, or accept it knowingly with smolotchi_accept_expired", channel=wanted, expired_at=expires)
        version, digest = str(document.get("version")), document.get("manifest_sha256")
    if not VERSION.fullmatch(version):
        raise Refused("release.version-unknown", "this is not a release's version", "name a version that the source has", version=version)
    name = "releases/%s/manifest.toml" % version
    document, content = signed(tree, name, keys)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise Refused("release.file-mismatch", "the manifest is not the one that the channel names",
                      "fetch the release again from a place that you trust", path=name)
    expect(name, document, kind="smolotchi/manifest/1", version=version)
    return document


def package(tree, document, name, architecture):
    """One package of a verified manifest: its entry and its bytes, after size and hash agreed."""
    entries = [entry for entry in document.get("deb", []) if entry.get("package") == name]
    entry = next((entry for entry in entries if entry.get("architecture") in (architecture, "all")), None)
    if entry is None:
        raise Refused("release.wrong-architecture", "release %s has no %s for this node" % (document["version"], name),
                      "use the release for the node's architecture", node=architecture,
                      offered=", ".join(sorted(str(entry.get("architecture")) for entry in entries)) or "none")
    path, size = str(entry.get("path")), entry.get("size")
    if not POOL_PATH.fullmatch(path) or not isinstance(size, int):
        raise not_understood("releases/%s/manifest.toml" % document["version"], "the entry of %s" % name)
    content = tree.read(path, size)
    if content is None:
        raise Refused("release.file-missing", "a file of the release is missing",
                      "the source is incomplete; copy or fetch it again", path=path, source=tree.path)
    found = hashlib.sha256(content).hexdigest()
    if len(content) != size or found != entry.get("sha256"):
        raise Refused("release.file-mismatch", "a package differs from what was signed",
                      "fetch it again from a place that you trust", path=path, expected=entry.get("sha256"), found=found)
    return entry, content
