//! Who may look: the token, TLS, and which listener needs what. Anything that others could reach needs both.

use crate::config::WebSettings;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use smolotchi_operator::{Code, Fault, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::{ServerConfig, version::TLS13};

/// The systemd credential that holds the token.
const TOKEN: &str = "web.token";
/// The one that holds the key of the certificate.
const KEY: &str = "web.key";
/// The shortest token: what 120 random bits need as base64.
const MIN_TOKEN: usize = 20;

/// Only what proves the token is kept, never the token.
#[derive(Clone, Copy)]
pub(super) struct Token([u8; 32]);

/// What callers must bring.
pub(super) struct Access {
    /// `None`: nothing.
    pub(super) token: Option<Token>,
    /// `None`: plain TCP.
    pub(super) tls: Option<TlsAcceptor>,
}

/// Where callers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A unix socket: the rights of its file decide.
    Socket,
    /// This machine.
    Loopback,
    /// Anybody whom the firewall lets through.
    Wide,
}

impl Access {
    /// Reads the token, the certificate and its key. `credentials` is systemd's folder of them. Errors:
    /// `web.not-protected` for a token that can be guessed, `web.tls`.
    pub(super) fn load(settings: &WebSettings, credentials: Option<&Path>) -> Result<Access> {
        let token = match credentials.map(|folder| folder.join(TOKEN)).filter(|path| path.exists()) {
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| Fault::io("could not read the token", &path, &error))?;
                Some(Token::new(text.trim())?)
            }
            None => None,
        };
        let tls = match (place(&settings.tls_certificate, credentials)?, place(&settings.tls_key, credentials)?) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(tls(&certificate, &key)?),
            _ => return Err(Fault::new(Code::WebTls, "only one of tls_certificate and tls_key is set")),
        };
        Ok(Access { token, tls })
    }

    /// Refuses a listener that strangers could reach without proving who they are, or that would show them the token on its
    /// way. Errors: `web.not-protected`.
    pub(super) fn judge(&self, reach: Reach, address: &str) -> Result<()> {
        let lacks = match (reach, self.token.is_some(), self.tls.is_some()) {
            (Reach::Socket | Reach::Loopback, _, _) | (Reach::Wide, true, true) => return Ok(()),
            (Reach::Wide, false, true) => "a token",
            (Reach::Wide, true, false) => "TLS",
            (Reach::Wide, false, false) => "a token and TLS",
        };
        Err(Fault::new(Code::WebNotProtected, "others could reach this listener, and it is not protected")
            .fact("address", address)
            .fact("lacks", lacks))
    }
}

impl Token {
    fn new(text: &str) -> Result<Token> {
        if text.len() < MIN_TOKEN {
            let fault = Fault::new(Code::WebNotProtected, "the token is too short: it could be guessed");
            return Err(fault.hint("make one with: smolotchi secrets set web.token --generate").fact("at_least", MIN_TOKEN));
        }
        Ok(Token(Sha256::digest(text.as_bytes()).into()))
    }

    /// Whether this Authorization header has the token: as `Bearer TOKEN`, or as the password of `Basic`, whatever the user.
    pub(super) fn is_in(&self, header: &str) -> bool {
        let Some((scheme, value)) = header.split_once(' ') else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            self.is(value.trim().as_bytes())
        } else if scheme.eq_ignore_ascii_case("basic") {
            let pair = BASE64_STANDARD.decode(value.trim()).unwrap_or_default();
            pair.iter().position(|byte| *byte == b':').is_some_and(|colon| self.is(&pair[colon + 1..]))
        } else {
            false
        }
    }

    /// Compares the hashes, all bytes of them, always.
    fn is(&self, given: &[u8]) -> bool {
        let given = Sha256::digest(given);
        self.0.iter().zip(given.iter()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// Whether a secret is one that web could use. Errors: `web.not-protected` for the token, `web.tls`.
pub(crate) fn check_secret(name: &str, bytes: &[u8]) -> Result<()> {
    let unusable = |what: &str| Fault::new(Code::WebTls, what).hint("as PEM: -----BEGIN …");
    match name {
        TOKEN => {
            let text = std::str::from_utf8(bytes).map(str::trim).unwrap_or_default();
            // It must pass through a header as it is.
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let fault = Fault::new(Code::WebNotProtected, "a token is one word of ASCII letters, digits and signs");
                return Err(fault.hint("make one with: smolotchi secrets set web.token --generate"));
            }
            Token::new(text).map(|_| ())
        }
        KEY => PrivateKeyDer::from_pem_slice(bytes).map(|_| ()).map_err(|_| unusable("this is no private key")),
        _ => match CertificateDer::pem_slice_iter(bytes).collect::<std::result::Result<Vec<_>, _>>() {
            Ok(chain) if !chain.is_empty() => Ok(()),
            _ => Err(unusable("this is no certificate")),
        },
    }
}

/// The file that a setting names: a path, or a credential of systemd.
fn place(setting: &str, credentials: Option<&Path>) -> Result<Option<PathBuf>> {
    match (setting, credentials) {
        ("", _) => Ok(None),
        (path, _) if path.starts_with('/') => Ok(Some(path.into())),
        (name, Some(folder)) => Ok(Some(folder.join(name))),
        (name, None) => Err(Fault::new(Code::WebTls, "systemd handed in no credentials").fact("credential", name)),
    }
}

/// TLS 1.3 without resumption: nothing is kept of a caller.
fn tls(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let broken = |path: &Path, error: &dyn std::error::Error| {
        Fault::new(Code::WebTls, "the certificate or its key can't be used").fact("path", path.display().to_string()).cause(error)
    };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(|error| broken(certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| broken(key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret));
    let mut config = config.map_err(|error| broken(certificate, &error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn settings(certificate: &str, key: &str) -> WebSettings {
        WebSettings { hosts: vec![], refresh_seconds: None, tls_certificate: certificate.into(), tls_key: key.into() }
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token::new(GOOD).unwrap();
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let cases = [
            (format!("Bearer {GOOD}"), true),
            (format!("bearer  {GOOD}"), true),
            (basic(&format!("anybody:{GOOD}")), true),
            (basic(&format!(":{GOOD}")), true),
            (format!("Bearer {GOOD}0"), false),
            (format!("Bearer {}", &GOOD[1..]), false),
            (format!("Token {GOOD}"), false),
            (GOOD.to_owned(), false),
            ("Bearer ".to_owned(), false),
            (String::new(), false),
            (basic(GOOD), false),
            (basic(&format!("{GOOD}:")), false),
            ("Basic %%%".to_owned(), false),
        ];
        for (header, opens) in cases {
            assert_eq!(token.is_in(&header), opens, "{header}");
        }
    }

    #[test]
    fn what_others_can_reach_needs_token_and_tls() {
        let token = Token::new(GOOD).ok();
        let tls = || Some(TlsAcceptor::from(Arc::new(server_config())));
        let cases: [(Reach, bool, bool, Option<&str>); 7] = [
            (Reach::Socket, false, false, None),
            (Reach::Loopback, false, false, None),
            (Reach::Loopback, true, false, None),
            (Reach::Wide, true, true, None),
            (Reach::Wide, true, false, Some("TLS")),
            (Reach::Wide, false, true, Some("a token")),
            (Reach::Wide, false, false, Some("a token and TLS")),
        ];
        for (reach, with_token, with_tls, lacks) in cases {
            let access = Access { token: token.filter(|_| with_token), tls: with_tls.then(tls).flatten() };
            let fault = access.judge(reach, "x").err();
            assert_eq!(fault.as_ref().map(|fault| fault.code), lacks.map(|_| Code::WebNotProtected), "{reach:?}");
            assert_eq!(fault.as_ref().and_then(|fault| fault.details["lacks"].as_str()), lacks, "{reach:?}");
        }
    }

    fn server_config() -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(tokio_rustls::rustls::server::ResolvesServerCertUsingSni::new()))
    }

    #[test]
    fn what_is_set_must_be_usable() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("web.token"), format!("{GOOD}\n")).unwrap();
        assert!(Access::load(&settings("", ""), Some(dir.path())).unwrap().token.unwrap().is(GOOD.as_bytes()), "without the line's end");
        assert!(Access::load(&settings("", ""), None).unwrap().token.is_none());
        std::fs::write(dir.path().join("web.token"), "short\n").unwrap();
        assert_eq!(Access::load(&settings("", ""), Some(dir.path())).err().unwrap().code, Code::WebNotProtected);
        std::fs::remove_file(dir.path().join("web.token")).unwrap();
        std::fs::write(dir.path().join("web.key"), "no key").unwrap();
        for (certificate, key) in [("web.key", ""), ("", "web.key"), ("web.key", "web.key"), ("/nonexistent", "/nonexistent"), ("a", "b")] {
            assert_eq!(
                Access::load(&settings(certificate, key), Some(dir.path())).err().unwrap().code,
                Code::WebTls,
                "{certificate} {key}"
            );
        }
        assert_eq!(Access::load(&settings("a", "b"), None).err().unwrap().code, Code::WebTls);
    }
}
