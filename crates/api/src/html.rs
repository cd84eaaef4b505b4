//! Pages for people: one shell, one style, nothing loaded from outside, no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0a6cc2}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:62rem;padding:1.5rem}\
a{color:var(--accent)}code,pre{font:.87em/1.45 ui-monospace,monospace}\
pre{background:var(--soft);border:1px solid var(--line);border-radius:6px;overflow-x:auto;padding:.7rem}\
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;\
vertical-align:top}details{border:1px solid var(--line);border-radius:6px;margin:.6rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}summary p{display:inline;margin:0}.method{display:inline-block;font:700 .8em ui-monospace,monospace;\
min-width:4.2em}.soft{opacity:.75}nav a{margin-right:1rem}";

/// A whole page around this.
pub(crate) fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) " · Kite" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                nav {
                    a href="/docs" { "API" }
                    a href="/problems" { "Problems" }
                    a href="/openapi.json" { "OpenAPI" }
                }
                (body)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_markup_is_escaped_wherever_it_stands() {
        let text = "<a b=\"c\">&'한글'";
        let page = page(text, &html! { p title=(text) { (text) } }).into_string();
        let escaped = "&lt;a b=&quot;c&quot;&gt;&amp;'한글'";
        assert!(page.contains(&format!("<title>{escaped} · Kite</title>")), "{page}");
        assert!(page.contains(&format!("<p title=\"{escaped}\">{escaped}</p>")), "{page}");
    }

    #[test]
    fn a_page_asks_for_nothing_from_outside() {
        let page = page("Title", &html! { p { "body" } }).into_string();
        assert!(!page.contains("http") && !page.contains("<script") && page.contains("<p>body</p>"));
    }
}
