//! What core's API answers when it doesn't do what was asked: `{"error":{…}}` with the catalogue's code.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use smolotchi_operator::{Code, Exit, Fault};

/// A fault on its way to a caller.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    fault: Fault,
}

impl Refusal {
    /// For a path or method that version 1 doesn't have.
    pub(super) fn no_such_call() -> Self {
        Refusal { status: StatusCode::NOT_FOUND, fault: Fault::new(Code::CoreRequest, "there is no such call") }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status = match (fault.code, fault.code.exit()) {
            (Code::CoreRefused, _) => StatusCode::FORBIDDEN,
            (Code::CoreRequest | Code::StoreInvalidEvent, _) => StatusCode::BAD_REQUEST,
            (Code::CoreNotFound, _) => StatusCode::NOT_FOUND,
            (Code::RunUnknown | Code::FindingUnknown | Code::JobUnknown | Code::StageUnknown | Code::ArtifactUnknown, _) => {
                StatusCode::NOT_FOUND
            }
            (Code::ArtifactTooLarge | Code::CoreTooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
            (Code::JobNotHeld | Code::JobEnded | Code::StageDecided | Code::LeaseHeld | Code::LeaseNotHeld | Code::ArtifactNeeded, _) => {
                StatusCode::CONFLICT
            }
            (Code::DiskFull, _) => StatusCode::INSUFFICIENT_STORAGE,
            (Code::StoreBusy | Code::CoreBusy, _) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Exit::Validation) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal { status, fault }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.fault }))).into_response()
    }
}

/// What the query of a request says.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    let Query(value) = Query::try_from_uri(uri).map_err(|rejection| {
        let cause = std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
        Fault::new(Code::CoreRequest, "the query is not understood").fact("query", uri.query().unwrap_or_default()).fact("cause", cause)
    })?;
    Ok(value)
}

/// A request's JSON body. Over a unix socket the content type protects nobody, so it isn't asked for.
pub(super) fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| Refusal {
        status: rejection.status(),
        fault: Fault::new(Code::CoreRequest, "the body can't be read").fact("cause", rejection.body_text()),
    })?;
    // By way of a map: serde also takes an array for a struct.
    let map: Result<Map<String, Value>, _> = serde_json::from_slice(&body);
    let value = map.and_then(|map| serde_json::from_value(map.into()));
    value.map_err(|error| Fault::new(Code::CoreRequest, "the body is not what this call takes").cause(&error).into())
}
