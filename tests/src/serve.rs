//! A tiny web server for static files: what the nodes' apt and installer fetch from. It runs in the supervisor, so it
//! dies with the lab. GET and HEAD, one request per connection, no listings, nothing outside its folder.

use crate::fault;
use smolotchi_operator::{Fault, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Serves `folder` until this process ends. Returns the address.
pub(crate) fn start(listener: TcpListener, folder: PathBuf) -> Result<SocketAddr> {
    if !folder.is_dir() {
        return Err(fault("can't serve what is no folder").fact("path", folder.display().to_string()));
    }
    let address = listener.local_addr().map_err(|error| Fault::io("could not learn the server's address", &folder, &error))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            // A client that went away is its own affair.
            std::thread::spawn(move || drop(answer(&stream, &folder)));
        }
    });
    Ok(address)
}

fn answer(mut stream: &TcpStream, folder: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.take(16 * 1024));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !matches!(method, "GET" | "HEAD") {
        return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let file = path_of(target).map(|path| folder.join(path)).filter(|path| path.is_file()).and_then(|path| File::open(path).ok());
    let Some(mut file) = file else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let size = file.metadata()?.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n")?;
    if method == "GET" {
        std::io::copy(&mut file, &mut stream)?;
    }
    stream.flush()
}

/// The path that a request's target names, relative; nothing for one that would leave the folder or is no path.
fn path_of(target: &str) -> Option<PathBuf> {
    let path = PathBuf::from(decode(target.split(['?', '#']).next()?.strip_prefix('/')?)?);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// Percent-decoding; apt sends `+` and `~` of version numbers encoded.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? * 16 + digit(rest.next()?)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_inside_the_folder() {
        for (target, path) in [
            ("/pool/a_1%2bb%7e1_all.deb", Some("pool/a_1+b~1_all.deb")),
            ("/Release?x=1", Some("Release")),
            ("/../etc/passwd", None),
            ("/%2e%2e/etc/passwd", None),
            ("//etc/passwd", None),
            ("/%2fetc/passwd", None),
            ("/a%zz", None),
            ("/a%2", None),
            ("etc/passwd", None),
        ] {
            assert_eq!(path_of(target), path.map(PathBuf::from), "{target}");
        }
    }
}
