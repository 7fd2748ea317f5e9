//! Why a question gets no answer, as a status and JSON.

use crate::explanation::StoredError;
use crate::history::HistoryError;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// `{"error": …}` with its status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl ToString) -> Self {
        Self { status, message: message.to_string() }
    }

    /// A question that nobody understands.
    pub(super) fn bad(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Something that is not there.
    pub(super) fn not_found(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Something that may be there later.
    pub(super) fn busy(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// A request that came under a name which is not this server's.
    pub(super) fn misdirected(message: impl ToString) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.message}))).into_response()
    }
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Absent { .. } => Self::not_found(error),
            error => Self::busy(error),
        }
    }
}

impl From<StoredError> for Refusal {
    fn from(error: StoredError) -> Self {
        match error {
            StoredError::NoPair { .. }
            | StoredError::NoStep { .. }
            | StoredError::NoSample { .. } => Self::not_found(error),
            // It was there.
            StoredError::NoTables { .. } | StoredError::NotFinite { .. } => {
                Self::new(StatusCode::GONE, error)
            }
            StoredError::History(error) => error.into(),
            error => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad(rejection.body_text())
    }
}

/// The thread of an answer died.
impl From<tokio::task::JoinError> for Refusal {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

/// The server ends.
impl From<tokio::sync::AcquireError> for Refusal {
    fn from(error: tokio::sync::AcquireError) -> Self {
        Self::busy(error)
    }
}
