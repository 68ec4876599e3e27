//! Takes secrets out of text that leaves the machine: by the names of keys and by what secrets look like. Pure.
//!
//! Rather too much than too little: a value that is taken away for nothing is a pity, one that stays is a leak.

use serde_json::Value;

/// What stands in a secret's place.
pub(crate) const MARK: &str = "[redacted]";

/// Words that make a key's name a secret's, wherever they stand in it.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "psk",
    "credential",
    "authorization",
    "cookie",
    "privatekey",
    "signingkey",
    "wepkey",
    "sshkey",
];
/// Words that do so as a whole part of a name (`wifi_key`, `db-pass`), but not alone.
const PARTS: &[&str] = &["key", "keys", "pass", "pwd", "pw", "auth", "pin", "otp", "wep"];
/// Names that look so and are none: what our own entries call a setting, and settings of systemd.
const HARMLESS: &[&str] =
    &["smolotchi_fact_key", "keyringmode", "pass_environment", "passenvironment", "passcredentials", "passsecurity", "passpacketinfo"];
/// Beginnings of tokens that say what they are.
const PREFIXES: &[&str] = &[
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "sk-",
    "sk_live_",
    "eyJ",
    "RWRTY0Iy",
    "AGE-SECRET-KEY-",
];

/// Puts the mark in the place of every value below a secret's name, however deep, and [`redact`]s each other string by itself, so
/// that what one begins doesn't swallow the next. How many there were.
pub(crate) fn scrub(value: &mut Value, secret: bool) -> usize {
    match value {
        Value::Object(pairs) => pairs.iter_mut().map(|(name, value)| scrub(value, secret || is_secret(name))).sum(),
        Value::Array(items) => items.iter_mut().map(|item| scrub(item, secret)).sum(),
        Value::Null => 0,
        leaf if secret => {
            *leaf = Value::from(MARK);
            1
        }
        Value::String(text) => {
            let (clean, count) = redact(text);
            *text = clean;
            count
        }
        _ => 0,
    }
}

/// As [`redact`]; what is a JSON document stays one.
pub(crate) fn redact_document(text: &str) -> (String, usize) {
    match serde_json::from_str(text) {
        Ok(Value::String(_)) | Err(_) => redact(text),
        Ok(mut value) => {
            let count = scrub(&mut value, false);
            (format!("{value:#}\n"), count)
        }
    }
}

/// What ends a secret that goes over several lines.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// This text.
    Until(&'static str),
    /// A line that doesn't end with a backslash.
    Continued,
}

/// Whether a line begins a secret that goes on in the next one.
fn opens(line: &str) -> Option<Open> {
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        let from = &rest[start..];
        let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        rest = after;
        if !is_secret(word) {
            continue;
        }
        let value = after.trim_start_matches(['"', '\'', ']', ' ', '\t']);
        let Some(value) = value.strip_prefix(['=', ':']).map(str::trim) else { continue };
        for (open, close) in [("\"\"\"", "\"\"\""), ("'''", "'''"), ("[", "]"), ("{", "}")] {
            if value.strip_prefix(open).is_some_and(|inside| !inside.contains(close)) {
                return Some(Open::Until(close));
            }
        }
        if value.ends_with('\\') {
            return Some(Open::Continued);
        }
    }
    None
}

/// The text without its secrets, and how many there were.
pub(crate) fn redact(text: &str) -> (String, usize) {
    let mut out = String::with_capacity(text.len());
    let mut count = 0;
    // How many lines in a row may still be no part of the private key that was begun: a key has its header, and what ends
    // it may be missing.
    let mut in_block = 0;
    let mut open = None;
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        if let Some(until) = open {
            let goes_on = match until {
                Open::Until(close) => !body.contains(close),
                Open::Continued => body.trim_end().ends_with('\\'),
            };
            open = Some(until).filter(|_| goes_on);
            out.push_str(MARK);
            out.push_str(end);
            continue;
        }
        open = opens(body);
        count += usize::from(open.is_some());
        // A private key in PEM: everything from its first line to its last, even if it is cut off.
        if in_block > 0 {
            in_block = if body.contains("-----END") {
                0
            } else if is_key(body) {
                STRANGE
            } else {
                in_block - 1
            };
            continue;
        }
        if let Some(at) = body.find("-----BEGIN").filter(|at| body[*at..].contains("PRIVATE KEY")) {
            let rest = &body[at..];
            in_block = if rest.contains("-----END") { 0 } else { STRANGE };
            out.push_str(&line_of(&body[..at], &mut count));
            out.push_str(MARK);
            count += 1;
        } else {
            out.push_str(&line_of(body, &mut count));
        }
        out.push_str(end);
    }
    (out, count)
}

/// So many lines in a row that can be no key's end a private key whose last line is missing: the two of its header, the blank one
/// after them, and its own last, which may be short.
const STRANGE: u32 = 4;

/// Whether a line ends as those of a key in PEM do, whatever a log has put before it.
fn is_key(line: &str) -> bool {
    let last = line.split_whitespace().next_back().unwrap_or_default();
    last.len() >= 40 && last.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether a key of this name holds a secret.
fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let last = lower.rsplit('.').next().unwrap_or_default();
    if HARMLESS.contains(&last) {
        return false;
    }
    let joined: String = lower.chars().filter(|c| c.is_alphanumeric()).collect();
    let parts: Vec<&str> = lower
        .split(['_', '-', '.'])
        .map(|part| part.trim_end_matches(|c: char| c.is_ascii_digit()))
        .filter(|part| !part.is_empty())
        .collect();
    SECRET.iter().any(|word| joined.contains(word))
        || parts.iter().any(|part| {
            PARTS.contains(part) && (parts.len() > 1 || *part != "key") && (parts.len() > 1 || !["keys", "auth"].contains(part))
        })
}

/// One line without its secrets.
fn line_of(line: &str, count: &mut usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        if let Some((scheme, tail)) = address(word, after) {
            out.push_str(word);
            out.push_str(scheme);
            out.push_str(MARK);
            *count += 1;
            rest = tail;
            continue;
        }
        if PREFIXES.iter().any(|prefix| word.starts_with(prefix) && word.len() >= prefix.len() + 12) {
            out.push_str(MARK);
            *count += 1;
            rest = after;
            continue;
        }
        // A line of its own: the value may have blanks.
        let alone = out.trim().is_empty();
        out.push_str(word);
        rest = after;
        let bearer = ["bearer", "basic"].contains(&word.to_lowercase().as_str()) && after.starts_with(' ') && after.len() > 9;
        let option = word.starts_with("--") || before.ends_with("--") || before.ends_with(" -");
        if let Some((gap, value, tail)) = is_secret(word).then(|| value_of(after, option, alone)).flatten() {
            out.push_str(gap);
            out.push_str(if value.is_empty() { "" } else { MARK });
            *count += usize::from(!value.is_empty());
            rest = tail;
        } else if bearer {
            let end = after[1..].find(|c: char| c.is_whitespace() || c == '"' || c == '\'').map_or(after.len(), |end| end + 1);
            out.push(' ');
            out.push_str(MARK);
            *count += 1;
            rest = &after[end..];
        }
    }
    out + rest
}

/// `://USER@…` after a scheme: what is kept, and what follows the user.
fn address<'a>(word: &str, after: &'a str) -> Option<(&'a str, &'a str)> {
    let host = after.strip_prefix("://")?;
    let end = host.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '>')).unwrap_or(host.len());
    // The last one: a password may have one, too.
    let at = host[..end].rfind('@')?;
    (!word.is_empty()).then_some((&after[..3], &host[at..]))
}

/// What follows a key: the gap up to the value, the value, and what comes after it. None: no value follows.
fn value_of(after: &str, option: bool, alone: bool) -> Option<(&str, &str, &str)> {
    let closing = after.trim_start_matches(['\\', '"', '\'', ']', ' ', '\t']);
    let sign = closing.chars().next().filter(|c| matches!(c, '=' | ':'));
    let (value_at, tight) = match sign {
        Some(_) => {
            let value = closing[1..].trim_start_matches(['=', '>', ' ', '\t']);
            (after.len() - value.len(), closing.starts_with('=') && value.len() + 1 == closing.len())
        }
        // `--token VALUE`
        None if option && after.starts_with(' ') => (after.len() - after.trim_start().len(), true),
        None => return None,
    };
    let (gap, value) = after.split_at(value_at);
    let slashes = value.len() - value.trim_start_matches('\\').len();
    let quote = value[slashes..].chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        // `KEY=value other`: to the next blank; `key: some words`: to the end, for a password may have blanks.
        let list = value.starts_with(['[', '{']);
        let end = if tight && !list && !alone { value.find(char::is_whitespace).unwrap_or(value.len()) } else { value.len() };
        return Some((gap, &value[..end], &value[end..]));
    };
    // The quote that closes has as many backslashes before it as the one that opened.
    let inner = &value[slashes + 1..];
    let mut end = inner.len();
    let mut run = 0;
    for (at, c) in inner.char_indices() {
        if c == quote && run <= slashes {
            end = at - run;
            break;
        }
        run = if c == '\\' { run + 1 } else { 0 };
    }
    let gap_end = gap.len() + slashes + 1;
    Some((&after[..gap_end], &inner[..end], &inner[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must be gone is written as S3CRET.
    #[test]
    fn secrets_go_whatever_they_are_written_in() {
        let cases = [
            "password = \"S3CRET\"",
            "Password: S3CRET with S3CRET blanks",
            "  db_pass='S3CRET'",
            "API_TOKEN=S3CRET PATH=/bin",
            "Environment=WIFI_KEY=S3CRET TERM=linux",
            "psk=S3CRET",
            "wpa_passphrase=S3CRET S3CRET",
            "wep_key0=S3CRET",
            "{\"token\":\"S3CRET\",\"other\":1}",
            "{\"body\":\"{\\\"token\\\":\\\"S3CRET\\\",\\\"a\\\":1}\"}",
            "{\"authToken\": \"S3CRET \\\"S3CRET\\\"\"}",
            "{\"secrets\":[\"S3CRET\",\"S3CRET\"]}",
            "Authorization: Bearer S3CRET",
            "curl -H 'Authorization: Basic S3CRET'",
            "said Bearer S3CRETS3CRET to it",
            "connecting to https://user:S3CRET@host.example/path",
            "mqtt://S3CRET@host and http://u:S3C@RET@S3CRET@h/x",
            "GET /x?token=S3CRET&y=1 HTTP/1.1",
            "program --token S3CRET --verbose",
            "program --password=S3CRET",
            "ghp_S3CRETS3CRETS3CRET",
            "eyJhbGciS3CRET.eyJzdS3CRET.S3CRET",
            "signing-key: S3CRET",
            "ssh_private_key = S3CRET",
            "Cookie: a=S3CRET; b=S3CRET",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nS3CRET\nS3CRET\n-----END OPENSSH PRIVATE KEY-----",
            "log: -----BEGIN PRIVATE KEY-----S3CRET",
            "psk = \"\"\"\nS3CRET\nS3CRET\n\"\"\"",
            "tokens = [\n  \"S3CRET\",\n  \"S3CRET\",\n]",
            "\"credentials\": {\n  \"value\": \"S3CRET\"\n}",
            "SetCredential=web.token: \\\n  S3CRET\\\n  S3CRET",
            "untrusted comment: minisign encrypted secret key\nRWRTY0IyS3CRETS3CRET",
        ];
        for case in cases {
            let (clean, count) = redact(case);
            assert!(!clean.contains("S3CRET") && clean.contains(MARK) && count > 0, "{case}\n{clean}");
        }
    }

    #[test]
    fn what_helps_stays() {
        let cases = [
            "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "[config.invalid] a setting has a wrong value; key: web.hosts; line: 3",
            "SMOLOTCHI_FACT_KEY=core.min_free_mib",
            "KeyringMode=private",
            "https://host.example/path?x=1#y",
            "user@host.example logged in",
            "passed 3 of 4",
            "the key is known",
            "web.hosts  [\"a\"]  /etc/x.toml:3",
            "",
        ];
        for case in cases {
            assert_eq!(redact(case), (case.to_owned(), 0));
        }
        assert_eq!(redact("a=1 API_TOKEN=x b=2\nnext").0, "a=1 API_TOKEN=[redacted] b=2\nnext");
        assert_eq!(redact("{\"token\":\"x\",\"b\":2}").0, "{\"token\":\"[redacted]\",\"b\":2}");
        assert_eq!(redact("http://u:p@h:80/x").0, "http://[redacted]@h:80/x");
        assert_eq!(redact("tokens = [\n \"x\"\n]\nb = 2").0.lines().last(), Some("b = 2"));
        assert_eq!(redact("a\n-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\nb").0, "a\n[redacted]\nb");
    }

    #[test]
    fn a_key_without_an_end_takes_itself_away_and_not_the_rest() {
        let line = "S3CRET".repeat(10);
        let rest = "core is ready\n".repeat(9);
        let cases = [
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{line}\n{line}\nS3CRET==\n{rest}"
            ),
            format!(
                "10:00 a[1]: -----BEGIN PRIVATE KEY-----\n10:00 a[1]: {line}\n10:00 b[2]: x\n10:00 a[1]: {line}\n10:00 a[1]: S3CRET\n{rest}"
            ),
            format!("-----BEGIN PRIVATE KEY-----\n{rest}"),
        ];
        for case in cases {
            let (clean, count) = redact(&case);
            assert!(!clean.contains("S3CRET") && clean.ends_with(&"core is ready\n".repeat(5)) && count == 1, "{case}\n{clean}");
        }
        let events = serde_json::json!({"events": [{"body": "-----BEGIN PRIVATE KEY-----\nS3CRET"}, {"body": "a=1 token=S3CRET b=2"}, {"body": "kept"}]});
        let (clean, count) = redact_document(&format!("{events:#}"));
        let clean: Value = serde_json::from_str(&clean).unwrap();
        assert_eq!(
            clean,
            serde_json::json!({"events": [{"body": MARK.to_owned() + "\n"}, {"body": "a=1 token=[redacted] b=2"}, {"body": "kept"}]})
        );
        assert_eq!(count, 2);
        assert_eq!(redact_document("(token=S3CRET)\n").0, redact("(token=S3CRET)\n").0, "what is no JSON is text");
    }

    #[test]
    fn values_below_a_secrets_name_go_however_deep() {
        let mut value =
            serde_json::json!({"tokens": ["S3CRET", {"a": "S3CRET"}], "credentials": {"value": "S3CRET", "none": null}, "b": [1, "x"]});
        scrub(&mut value, false);
        assert!(!value.to_string().contains("S3CRET"), "{value}");
        assert_eq!((&value["b"], &value["credentials"]["none"]), (&serde_json::json!([1, "x"]), &Value::Null));
    }
}
