//! `GET` and `POST /v1/admin/backups`

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use kite_commands::backup_desk::{Backup, BackupRefusal, BackupState, NAME_BYTES_MAX, is_name};
use kite_commands::describe;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::ApiJson;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// A backup to be taken.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupBody {
    /// The name of its directory within the directory for backups: letters, digits, `-`, `_` and `.`. Left out: made from
    /// the time.
    #[schema(example = "before-the-upgrade", max_length = 100)]
    pub to: Option<String>,
}

/// Where a backup stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupStateWord {
    /// It is being taken.
    Running,
    /// It is whole, and durable.
    Whole,
    /// It came to nothing.
    Failed,
}

/// A backup.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
pub struct BackupView {
    /// The name of its directory.
    pub name: String,
    /// When it was begun.
    pub taken_at: DateTime<Utc>,
    /// Where it stands.
    pub state: BackupStateWord,
    /// Up to which position it goes.
    pub until: u64,
    /// While it is being taken: the position up to which everything is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How many events it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// How large it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The version of Kite that took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kite_version: Option<String>,
    /// Why it came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl From<Backup> for BackupView {
    fn from(Backup { name, taken_at, until, state }: Backup) -> Self {
        let mut view = Self {
            name,
            taken_at,
            state: BackupStateWord::Running,
            until,
            position: None,
            events: None,
            bytes: None,
            kite_version: None,
            failure: None,
        };
        match state {
            BackupState::Running { position } => view.position = Some(position),
            BackupState::Whole { events, bytes, kite_version } => {
                view.state = BackupStateWord::Whole;
                (view.events, view.bytes, view.kite_version) =
                    (Some(events), Some(bytes), Some(kite_version));
            }
            BackupState::Failed { reason } => {
                view.state = BackupStateWord::Failed;
                view.failure = Some(reason);
            }
        }
        view
    }
}

/// Backups.
#[derive(Debug, Serialize, ToSchema)]
pub struct Backups {
    /// The newest first.
    pub items: Vec<BackupView>,
}

fn refused(refusal: BackupRefusal) -> Problem {
    let words = format!("No backup is taken: {}.", describe(&refusal));
    match refusal {
        BackupRefusal::NoDirectory | BackupRefusal::Running(_) | BackupRefusal::Exists(_) => {
            Problem::new(Code::NotPossibleNow, words)
        }
        BackupRefusal::Unusable(_) => Problem::new(Code::Unavailable, words),
    }
}

/// Lists the backups in the directory for backups, the one that is being taken, and the last one that failed. Without
/// such a directory there are none.
#[utoipa::path(
    get, path = "/v1/admin/backups", tag = "admin", operation_id = "list_backups",
    responses((status = 200, description = "The backups.", body = Backups))
)]
pub async fn list(state: State<ApiState>, _auth: AdminAuth) -> Answer<Json<Backups>> {
    let backups = match state.backups.list().await {
        Err(BackupRefusal::NoDirectory) => Vec::new(),
        listed => listed.map_err(refused)?,
    };
    Ok(Json(Backups { items: backups.into_iter().map(Into::into).collect() }))
}

/// Takes a backup of this instance while it runs, in its directory for backups (`backup_dir`), one at a time.
#[utoipa::path(
    post, path = "/v1/admin/backups", tag = "admin", operation_id = "take_backup", request_body = BackupBody,
    responses((status = 202, description = "It is being taken.", body = BackupView))
)]
pub async fn take(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiJson(body): ApiJson<BackupBody>,
) -> Answer<Written<BackupView>> {
    if body.to.as_deref().is_some_and(|name| !is_name(name)) {
        let detail = format!(
            "a name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, and begins with a letter or digit"
        );
        let error = FieldError::new("to", "not_a_name", detail.clone());
        return Err(Problem::new(Code::Refused, format!("No backup is taken: to: {detail}.")).at(error));
    }
    let backup = state.backups.begin(body.to, &auth.actor).await.map_err(refused)?;
    Ok(Written::accepted(0, "/v1/admin/backups".to_owned(), backup.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[test]
    fn a_second_backup_beside_one_that_is_taken_is_told_to_wait() {
        let answer = refused(BackupRefusal::Running("first".to_owned())).into_response();
        assert_eq!(answer.status(), axum::http::StatusCode::CONFLICT);
        let unusable = refused(BackupRefusal::unusable("it is inside")).into_response();
        assert_eq!(unusable.status(), axum::http::StatusCode::SERVICE_UNAVAILABLE);
    }
}
