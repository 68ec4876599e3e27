//! What a browser asked for: the path, the filters of the query, and what core is asked in turn.

use axum::http::Uri;
use form_urlencoded::{Serializer, parse};
use smolotchi_operator::{Code, Fault, Result};

/// The switch that stops a page from reloading itself, as a filter of the query.
pub(super) const REFRESH: &str = "refresh";

/// One request, as far as pages care.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The path.
    pub(super) path: String,
    filters: Vec<(String, String)>,
}

impl Asked {
    /// Errors: `core.request` for a filter with control characters, which nothing that can be found has.
    pub(super) fn new(uri: &Uri) -> Result<Asked> {
        let query = uri.query().unwrap_or_default();
        let filters: Vec<_> = parse(query.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.trim().to_owned()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        match filters.iter().find(|(name, value)| name.chars().chain(value.chars()).any(char::is_control)) {
            Some((name, _)) => {
                let fault = Fault::new(Code::CoreRequest, "A filter has control characters.");
                Err(fault.fact("filter", name.as_str()).fact("expected", "text without control characters"))
            }
            None => Ok(Asked { path: uri.path().to_owned(), filters }),
        }
    }

    /// A filter's value; one that is empty counts as not given.
    pub(super) fn filter(&self, name: &str) -> Option<&str> {
        self.filters.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// The number that the path ends with.
    pub(super) fn number(&self) -> Option<i64> {
        self.path.rsplit('/').next()?.parse().ok().filter(|number| *number > 0)
    }

    /// Whether the page was told not to reload itself.
    pub(super) fn is_still(&self) -> bool {
        self.filter(REFRESH) == Some("off")
    }

    /// This page with one filter changed, or taken away. But for the switch, the list then starts where the filter says.
    pub(super) fn with(&self, name: &str, value: Option<&str>) -> String {
        let stays = |of: &str| of != name && (name == REFRESH || !["before", "after"].contains(&of));
        let others = self.filters.iter().filter(|(of, _)| stays(of));
        let pairs = others.map(|(name, value)| (name.as_str(), value.as_str())).chain(value.map(|value| (name, value)));
        address(&self.path, pairs)
    }

    /// Another page, as still as this one.
    pub(super) fn to(&self, path: &str) -> String {
        address(path, self.is_still().then_some((REFRESH, "off")).into_iter())
    }

    /// A call of core with those of the filters that it knows, and others that this page always has.
    pub(super) fn call(&self, path: &str, known: &[&str], own: &[(&str, &str)]) -> String {
        let given = known.iter().filter_map(|name| Some((*name, self.filter(name)?)));
        address(path, given.chain(own.iter().copied()))
    }
}

/// A path with a query.
pub(super) fn address<'a>(path: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str) -> Asked {
        Asked::new(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn filters_are_read_and_written() {
        let it = asked("/timeline?topic=a.b&search=x%26y%3D%22+z&severity=&before=7&refresh=off");
        assert_eq!((it.filter("topic"), it.filter("search"), it.filter("severity")), (Some("a.b"), Some("x&y=\" z"), None));
        assert!(it.is_still());
        assert_eq!(it.with("before", Some("3")), "/timeline?topic=a.b&search=x%26y%3D%22+z&refresh=off&before=3");
        assert_eq!(it.with("topic", None), "/timeline?search=x%26y%3D%22+z&refresh=off");
        assert_eq!(it.with("after", Some("3")), "/timeline?topic=a.b&search=x%26y%3D%22+z&refresh=off&after=3");
        assert_eq!(it.with("refresh", None), "/timeline?topic=a.b&search=x%26y%3D%22+z&before=7");
        assert_eq!(it.to("/jobs"), "/jobs?refresh=off");
        assert_eq!(it.call("/v1/events", &["search", "since"], &[("limit", "3")]), "/v1/events?search=x%26y%3D%22+z&limit=3");
        assert_eq!(asked("/jobs").to("/findings"), "/findings");
    }

    #[test]
    fn control_characters_are_no_filter() {
        for uri in
            ["/?search=%00", "/?search=a%1bb", "/?search=a%0Ab", "/?search=%7f", "/?search=a%C2%85b", "/?a%00=b", "/?search=x&topic=%01"]
        {
            assert_eq!(Asked::new(&uri.parse().unwrap()).unwrap_err().code, Code::CoreRequest, "{uri}");
        }
        assert_eq!(asked("/?search=+%0d%0a&topic=%20x%09").filter("topic"), Some("x"), "what is around a value is no part of it");
        assert_eq!(asked("/?search=%E2%80%AE%ff").filter("search"), Some("\u{202e}\u{fffd}"));
    }

    #[test]
    fn a_path_ends_with_a_number_or_not() {
        let cases = [
            ("/jobs/12", Some(12)),
            ("/jobs/", None),
            ("/jobs/-3", None),
            ("/jobs/0", None),
            ("/jobs/1x", None),
            ("/jobs/99999999999999999999", None),
        ];
        for (uri, number) in cases {
            assert_eq!(asked(uri).number(), number, "{uri}");
        }
    }
}
