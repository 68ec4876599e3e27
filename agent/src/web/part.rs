//! A part of a page that core may not have: an older release, a call that another part of core brings, a filter that it refuses.

use crate::client::Client;
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use serde::de::DeserializeOwned;
use smolotchi_operator::{Code, Fault, Result};

/// What core told, or in words why it didn't.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Part<T> {
    /// It is here.
    Here(T),
    /// It is not, and the page says so.
    Absent {
        /// Why, for people.
        absent: String,
        /// Whether it was the question: the page's answer is then 400.
        #[serde(skip)]
        refused: bool,
    },
}

impl<T> Part<T> {
    pub(super) fn here(&self) -> Option<&T> {
        match self {
            Part::Here(it) => Some(it),
            Part::Absent { .. } => None,
        }
    }

    /// 400 when core refused the question, else 200.
    pub(super) fn status(&self) -> StatusCode {
        if matches!(self, Part::Absent { refused: true, .. }) { StatusCode::BAD_REQUEST } else { StatusCode::OK }
    }

    /// As shown, or a note why there is nothing to show.
    pub(super) fn show(&self, show: impl FnOnce(&T) -> Markup) -> Markup {
        match self {
            Part::Here(it) => show(it),
            Part::Absent { absent, .. } => html! { p.note { (absent) } },
        }
    }

    fn absent(status: StatusCode, fault: &Fault) -> Part<T> {
        let absent = match (fault.code, status) {
            (Code::StoreNotInSchema, _) => "The release that runs here does not have this yet.".to_owned(),
            (Code::CoreRequest, StatusCode::NOT_FOUND) => "Core does not have this: it is of another version than this page.".to_owned(),
            _ => fault.to_string(),
        };
        Part::Absent { absent, refused: status == StatusCode::BAD_REQUEST }
    }
}

/// Asks core for a part. Errors: only when core can't be asked at all.
pub(super) async fn part<T: DeserializeOwned>(core: &Client, call: &str) -> Result<Part<T>> {
    match core.ask(call).await {
        Ok(Ok(it)) => Ok(Part::Here(it)),
        Ok(Err((status, fault))) => Ok(Part::absent(status, &fault)),
        Err(fault) if fault.code == Code::CoreAnswer => Ok(Part::absent(StatusCode::OK, &fault)),
        Err(fault) => Err(fault),
    }
}
