//! `GET /problems` and `GET /problems/{code}`: the registry of problems as pages, and as the file docs/problems.md.

use axum::response::{Html, IntoResponse};
use std::fmt::Write;

use crate::extract::ApiPath;
use crate::html::{Escaped, page};
use crate::problem::{Answer, Code, Problem, ProblemKind};

/// All problems on one page.
#[utoipa::path(
    get, path = "/problems", tag = "service", operation_id = "list_problems", security(()),
    responses((status = 200, description = "Every problem, as a page for people.", content_type = "text/html", body = String))
)]
pub async fn list() -> Html<String> {
    let mut rows = String::new();
    for kind in Code::ALL.iter().map(|code| code.kind()) {
        write!(
            rows,
            "<tr><td>{}</td><td><a href=\"/problems/{code}\"><code>{code}</code></a></td><td>{}</td></tr>",
            kind.status,
            Escaped(kind.title),
            code = kind.code,
        )
        .expect("writing to a string cannot fail");
    }
    let body = format!(
        "<h1>Problems</h1><p>Whatever goes wrong is answered as <code>application/problem+json</code> (RFC 9457). Each \
         kind has a stable code and a page.</p><table><tr><th>Status</th><th>Code</th><th>Title</th></tr>{rows}</table>"
    );
    Html(page("Problems", &body))
}

/// One problem.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "service", operation_id = "get_problem", security(()),
    params(("code" = String, Path, description = "The problem's code", example = "request-refused")),
    responses((status = 200, description = "What the problem means and what to do.", content_type = "text/html", body = String))
)]
pub async fn get(ApiPath(code): ApiPath<String>) -> Answer<impl IntoResponse> {
    let kind = find(&code).ok_or_else(|| Problem::not_found("problem"))?;
    let body = format!(
        "<p><a href=\"/problems\">Problems</a></p><h1>{}</h1><p><code>{}</code>, HTTP status {}</p><h2>What happened</h2>\
         <p>{}</p><h2>What to do</h2><p>{}</p>",
        Escaped(kind.title),
        kind.code,
        kind.status,
        Escaped(kind.explanation),
        Escaped(kind.remedy)
    );
    Ok(Html(page(kind.title, &body)))
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
