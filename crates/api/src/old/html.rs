//! Pages for people: one shell, one style, nothing from outside, no script.

use std::fmt;

/// Text that may stand in HTML, in elements and in quoted attributes.
pub(crate) struct Escaped<'t>(pub(crate) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(place) = rest.find(['&', '<', '>', '"', '\'']) {
            let (plain, special) = rest.split_at(place);
            formatter.write_str(plain)?;
            formatter.write_str(match special.as_bytes()[0] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &special[1..];
        }
        formatter.write_str(rest)
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0a6cc2}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:62rem;padding:1.5rem}\
a{color:var(--accent)}code,pre{font:.87em/1.45 ui-monospace,monospace}\
pre{background:var(--soft);border:1px solid var(--line);border-radius:6px;overflow-x:auto;padding:.7rem}\
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;\
vertical-align:top}details{border:1px solid var(--line);border-radius:6px;margin:.6rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}summary p{display:inline;margin:0}.method{display:inline-block;font:700 .8em ui-monospace,monospace;\
min-width:4.2em}.soft{opacity:.75}nav a{margin-right:1rem}";

/// A whole page around a body that is HTML already.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{} · Kite</title><style>{STYLE}</style></head><body><nav>\
         <a href=\"/docs\">API</a><a href=\"/problems\">Problems</a><a href=\"/openapi.json\">OpenAPI</a></nav>{body}</body></html>",
        Escaped(title)
    )
}
