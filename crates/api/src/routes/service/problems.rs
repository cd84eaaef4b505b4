//! `GET /problems` and `GET /problems/{code}`: the registry of problems as pages, and as the file docs/problems.md.

use axum::response::{Html, IntoResponse};
use maud::html;
use std::fmt::Write;

use crate::extract::ApiPath;
use crate::html::page;
use crate::problem::{Answer, Code, Problem, ProblemKind};

/// All problems on one page.
#[utoipa::path(
    get, path = "/problems", tag = "service", operation_id = "list_problems", security(()),
    responses((status = 200, description = "Every problem, as a page for people.", content_type = "text/html", body = String))
)]
pub async fn list() -> Html<String> {
    let kinds = Code::ALL.iter().map(|code| code.kind());
    let body = html! {
        h1 { "Problems" }
        p {
            "Whatever goes wrong is answered as " code { "application/problem+json" } " (RFC 9457). Each kind has a stable \
             code and a page."
        }
        table {
            tr { th { "Status" } th { "Code" } th { "Title" } }
            @for kind in kinds {
                tr {
                    td { (kind.status) }
                    td { a href={ "/problems/" (kind.code) } { code { (kind.code) } } }
                    td { (kind.title) }
                }
            }
        }
    };
    Html(page("Problems", &body).into_string())
}

/// One problem.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "service", operation_id = "get_problem", security(()),
    params(("code" = String, Path, description = "The problem's code", example = "request-refused")),
    responses((status = 200, description = "What the problem means and what to do.", content_type = "text/html", body = String))
)]
pub async fn get(ApiPath(code): ApiPath<String>) -> Answer<impl IntoResponse> {
    let kind = find(&code).ok_or_else(|| Problem::not_found("problem"))?;
    let body = html! {
        p { a href="/problems" { "Problems" } }
        h1 { (kind.title) }
        p { code { (kind.code) } ", HTTP status " (kind.status) }
        h2 { "What happened" }
        p { (kind.explanation) }
        h2 { "What to do" }
        p { (kind.remedy) }
    };
    Ok(Html(page(kind.title, &body).into_string()))
}

fn find(code: &str) -> Option<ProblemKind> {
    Code::ALL.iter().map(|code| code.kind()).find(|kind| kind.code == code)
}

/// The registry as Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Problems\n\nGenerated from `crates/api/src/problem/registry.rs`; `UPDATE_GENERATED=1 cargo test -p kite-api` writes \
         it anew.\n\nWhatever goes wrong is answered as `application/problem+json` (RFC 9457) with the fields `type`, `title`, \
         `status`, `code`, `detail` and, where a field or a row is to blame, `errors: [{row, field, code, detail}]`. The `type` \
         is the address of a page with the words below.\n",
    );
    for kind in Code::ALL.iter().map(|code| code.kind()) {
        write!(text, "\n## {}\n\n`{}`, status {}", kind.title, kind.code, kind.status)
            .expect("writing to a string cannot fail");
        if kind.retry_after_s.is_some() {
            text.push_str(", with `Retry-After`");
        }
        write!(text, "\n\n{}\n\n**What to do:** {}\n", kind.explanation, kind.remedy)
            .expect("writing to a string cannot fail");
    }
    text
}
