//! Packages taken apart, changed and put together again, to test with what a release should never be. Works on copies;
//! what it makes is unsigned.

use crate::fault;
use crate::image::{make_folder, write};
use crate::program::host;
use smolotchi_operator::{Fault, Result};
use std::path::{Path, PathBuf};

/// The maintainer scripts that dpkg knows (Debian Policy 6.1).
pub const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// Unpacks `deb`, lets `edit` change the tree (control files in `DEBIAN/`), and packs it under `folder`. The name follows
/// the control file's fields; returns the path.
pub fn rebuild(deb: &Path, folder: &Path, edit: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    make_folder(folder)?;
    let tree = folder.join(".tree");
    let _ = std::fs::remove_dir_all(&tree);
    let text = |path: &Path| path.display().to_string();
    host(&["dpkg-deb", "--raw-extract", &text(deb), &text(&tree)])?;
    edit(&tree)?;
    let control = read(&tree.join("DEBIAN/control"))?;
    let field = |name: &str| control.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    let name = format!("{}_{}_{}.deb", field("Package:"), field("Version:"), field("Architecture:"));
    let made = folder.join(name);
    host(&["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", &text(&tree), &text(&made)])?;
    std::fs::remove_dir_all(&tree).map_err(|error| Fault::io("could not remove a scratch tree", &tree, &error))?;
    Ok(made)
}

/// Gives an unpacked package another version. Its files still say the one that they were built as.
pub fn set_version(tree: &Path, version: &str) -> Result<()> {
    let path = tree.join("DEBIAN/control");
    let control = read(&path)?;
    let lines: Vec<String> =
        control.lines().map(|line| if line.starts_with("Version:") { format!("Version: {version}") } else { line.to_owned() }).collect();
    write(&path, format!("{}\n", lines.join("\n")).as_bytes(), 0o644)
}

/// Makes every maintainer script (also those that the package doesn't have) tell of each call and fail on demand: it
/// appends `LABEL SCRIPT FIRST-ARGUMENT` to `<lab>/calls` and fails when `<lab>/begin/THE SAME WORDS` is there, or, having
/// done its work, `<lab>/end/THE SAME WORDS`.
pub fn instrument(tree: &Path, label: &str, lab: &str) -> Result<()> {
    for script in SCRIPTS {
        let path = tree.join("DEBIAN").join(script);
        let old = if path.exists() { read(&path)? } else { "#!/bin/sh\n".to_owned() };
        let Some((first, rest)) = old.split_once('\n').filter(|(first, _)| first.starts_with("#!/bin/sh")) else {
            return Err(fault("a maintainer script is no shell script").fact("script", path.display().to_string()));
        };
        let text = format!(
            "{first}\nlab_call=\"{label} {script} $1\"\nmkdir -p {lab} && echo \"$lab_call\" >>{lab}/calls\n\
             if [ -e \"{lab}/begin/$lab_call\" ]; then echo \"lab: $lab_call fails at its begin\" >&2; exit 1; fi\n\
             if [ -e \"{lab}/end/$lab_call\" ]; then trap 'trap - EXIT; echo \"lab: $lab_call fails at its end\" >&2; exit 1' EXIT; fi\n{rest}"
        );
        write(&path, text.as_bytes(), 0o755)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Fault::io("could not read a file of a package", path, &error))
}
