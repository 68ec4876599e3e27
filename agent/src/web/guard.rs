//! What every request must be and every answer must carry, whatever the page does.

use super::access::Token;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// No script, no frame, nothing from elsewhere; forms only search.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// The longest path with query.
const MAX_ADDRESS: usize = 2048;

/// The strict headers of every answer.
pub(super) const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Whom the guard lets through.
pub(super) struct Gate {
    /// Names, lower case, besides those of loopback.
    pub(super) hosts: Vec<String>,
    /// What a caller must know.
    pub(super) token: Option<Token>,
}

/// Answers only requests for a name of ours, by who knows the token: a page elsewhere must not read this one by rebinding its
/// name. That it only reads and names one host is known of its head.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = if !is_ours(request.headers(), request.uri(), &gate.hosts) {
        (StatusCode::MISDIRECTED_REQUEST, "This name is not served here; see [web] hosts in: smolotchi config show\n").into_response()
    } else if !gate.token.is_none_or(|token| knows(request.headers(), token)) {
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"smolotchi\", charset=\"UTF-8\"")];
        (StatusCode::UNAUTHORIZED, ask, "The token is needed, as the password of any user or as a bearer.\n").into_response()
    } else if request.uri().path_and_query().is_none_or(|address| address.as_str().len() > MAX_ADDRESS) {
        (StatusCode::URI_TOO_LONG, "This address is too long.\n").into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether the one Authorization header has the token.
fn knows(headers: &HeaderMap, token: Token) -> bool {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(header), None) = (given.next().and_then(|header| header.to_str().ok()), given.next()) else { return false };
    token.is_in(header)
}

/// Whether the one Host header names this machine, and so does the address, where that names a host.
fn is_ours(headers: &HeaderMap, uri: &Uri, hosts: &[String]) -> bool {
    let mut given = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (given.next().and_then(|host| host.to_str().ok()), given.next()) else { return false };
    names_us(host, hosts) && uri.authority().is_none_or(|authority| names_us(authority.as_str(), hosts))
}

/// Whether this is a name of loopback, or one that is configured; any port.
fn names_us(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => match host.rsplit_once(':') {
            Some((name, port)) if is_port(&format!(":{port}")) => name,
            Some(_) => return false,
            None => host,
        },
    };
    ["localhost", "127.0.0.1", "::1"].contains(&name.to_ascii_lowercase().as_str()) || hosts.contains(&name.to_ascii_lowercase())
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_served() {
        let hosts = ["node7.example".to_owned(), "fd00::7".to_owned()];
        let cases: [(&[&str], bool); 17] = [
            (&["localhost"], true),
            (&["LOCALHOST:8080"], true),
            (&["127.0.0.1:1"], true),
            (&["[::1]"], true),
            (&["[::1]:8080"], true),
            (&["node7.example:8080"], true),
            (&["Node7.Example"], true),
            (&["[fd00::7]:80"], true),
            (&["evil.example"], false),
            (&["localhost.evil.example"], false),
            (&["127.0.0.1.evil.example"], false),
            (&["localhost:80:80"], false),
            (&["localhost:x"], false),
            (&["[::1]x"], false),
            (&["localhost", "evil.example"], false),
            (&[""], false),
            (&[], false),
        ];
        for (given, ours) in cases {
            let mut headers = HeaderMap::new();
            for host in given {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            assert_eq!(is_ours(&headers, &Uri::from_static("/"), &hosts), ours, "{given:?}");
        }
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
        let of = |uri: &'static str| is_ours(&headers, &Uri::from_static(uri), &hosts);
        assert!(of("http://localhost:80/") && of("http://NODE7.example/x"));
        assert!(!of("http://evil.example/") && !of("http://localhost@evil.example/") && !of("http://evil.example@localhost/"));
    }
}
