//! A release tree, wherever it is: reads small documents and copies packages, by path, bounded.

use crate::fault::OrFault;
use smolotchi_operator::{Code, Fault, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long one file may take, also over a slow link.
const TRANSFER: Duration = Duration::from_secs(1800);

/// An open source.
#[derive(Debug)]
pub struct Tree {
    name: String,
    place: Place,
    only_channel: Option<String>,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    /// An unpacked bundle; the folder goes with it.
    Bundle(tempfile::TempDir),
    Url {
        base: String,
        client: reqwest::blocking::Client,
    },
}

impl Tree {
    /// Opens `http(s)://…`, a folder or a bundle. A bundle is unpacked to /var/tmp, not to memory.
    pub fn open(from: &str) -> Result<Tree> {
        let (place, only_channel) = if from.starts_with("http://") || from.starts_with("https://") {
            let client = reqwest::blocking::Client::builder()
                .connect_timeout(CONNECT)
                .timeout(TRANSFER)
                .redirect(reqwest::redirect::Policy::limited(3))
                .user_agent("smolotchi-install")
                .build()
                .map_err(|error| unreachable(from, &error))?;
            (Place::Url { base: from.trim_end_matches('/').to_owned(), client }, None)
        } else {
            let path = Path::new(from);
            let meta = std::fs::metadata(path)
                .map_err(|error| Fault::new(Code::SourceUnreachable, "the source is not there").fact("from", from).cause(&error))?;
            if meta.is_dir() {
                (Place::Folder(path.to_owned()), None)
            } else {
                let folder = tempfile::Builder::new()
                    .prefix("smolotchi-install-")
                    .tempdir_in("/var/tmp")
                    .map_err(|error| Fault::io("could not make a folder to unpack the bundle in", "/var/tmp", &error))?;
                let contents =
                    smolotchi_release::bundle::unpack(path, folder.path()).or_fault().map_err(|fault| fault.fact("from", from))?;
                (Place::Bundle(folder), Some(contents.channel))
            }
        };
        Ok(Tree { name: from.to_owned(), place, only_channel })
    }

    /// As the operator named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The one channel of a bundle.
    pub fn only_channel(&self) -> Option<&str> {
        self.only_channel.as_deref()
    }

    /// Where a bundle was unpacked; nothing for other sources.
    pub fn bundle(&self) -> Option<&Path> {
        match &self.place {
            Place::Bundle(folder) => Some(folder.path()),
            Place::Folder(_) | Place::Url { .. } => None,
        }
    }

    /// True for a URL.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Url { .. })
    }

    /// A small document, whole.
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let count = self.stream(path, |reader| reader.take(limit + 1).read_to_end(&mut bytes).map(|count| count as u64))?;
        if count > limit {
            return Err(Fault::new(Code::FileMismatch, "a document of the release is impossibly long")
                .fact("path", path)
                .fact("limit", limit));
        }
        Ok(bytes)
    }

    /// Copies a file of a known size; never writes more than that.
    pub fn copy(&self, path: &str, to: &Path, size: u64) -> Result<()> {
        let mut file = File::create(to).map_err(|error| Fault::io("could not write a file", to, &error))?;
        let mut failed_write = None;
        let count = self.stream(path, |reader| {
            let mut buffer = vec![0; 64 << 10];
            let mut total = 0_u64;
            let mut reader = reader.take(size + 1);
            loop {
                let count = reader.read(&mut buffer)?;
                if count == 0 {
                    return Ok(total);
                }
                if let Err(error) = file.write_all(&buffer[..count]) {
                    failed_write = Some(error);
                    return Ok(total);
                }
                total += count as u64;
            }
        })?;
        if let Some(error) = failed_write {
            return Err(Fault::io("could not write a file", to, &error));
        }
        if count > size {
            return Err(Fault::new(Code::FileMismatch, "a file of the release is longer than was signed")
                .fact("path", path)
                .fact("signed_bytes", size));
        }
        file.sync_all().map_err(|error| Fault::io("could not sync a file", to, &error))
    }

    /// Gives the file's bytes to `take`; its errors are the source's.
    fn stream(&self, path: &str, take: impl FnOnce(&mut dyn Read) -> std::io::Result<u64>) -> Result<u64> {
        let missing =
            || Fault::new(Code::FileMissing, "a file of the release is missing").fact("path", path).fact("from", self.name.as_str());
        let folder = match &self.place {
            Place::Folder(folder) => folder.as_path(),
            Place::Bundle(folder) => folder.path(),
            Place::Url { base, client } => {
                let url = format!("{base}/{path}");
                let mut response = client.get(&url).send().map_err(|error| unreachable(&url, &error))?;
                return match response.status() {
                    status if status.is_success() => take(&mut response).map_err(|error| unreachable(&url, &error)),
                    status if status.as_u16() == 404 || status.as_u16() == 410 => Err(missing()),
                    status => {
                        Err(Fault::new(Code::SourceUnreachable, "the server refused").fact("url", url).fact("status", status.to_string()))
                    }
                };
            }
        };
        let file = folder.join(path);
        match File::open(&file) {
            Ok(mut open) => take(&mut open).map_err(|error| Fault::io("could not read a file of the release", &file, &error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing()),
            Err(error) => Err(Fault::io("could not open a file of the release", &file, &error)),
        }
    }
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> Fault {
    Fault::new(Code::SourceUnreachable, "the source could not be reached").fact("url", url).cause(error)
}
