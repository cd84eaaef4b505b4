//! All refusals of a tenant as a CSV file, page by page.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::SecondsFormat;
use futures::stream;
use kite_domain::slug::TenantId;
use kite_projections::{Cursor, OptOut};

use crate::export::harmless;
use crate::routes::csv_file::BYTE_ORDER_MARK;
use crate::state::ApiState;

const PAGE: usize = 1_000;

/// The columns, as the import takes them.
pub(super) const COLUMNS: [&str; 4] = ["address", "brand", "source", "refused_at"];

/// The file, written while it is sent.
pub(super) fn table(state: ApiState, tenant: TenantId) -> Response {
    let pages = stream::try_unfold(Table { state, tenant, place: Place::Begin }, Table::next);
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"opt-outs.csv\""),
    ];
    (headers, Body::from_stream(pages)).into_response()
}

enum Place {
    Begin,
    After(Cursor),
    End,
}

struct Table {
    state: ApiState,
    tenant: TenantId,
    place: Place,
}

impl Table {
    /// The next piece of the file.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        let mut bytes = Vec::new();
        let after = match std::mem::replace(&mut self.place, Place::End) {
            Place::Begin => {
                bytes.extend_from_slice(BYTE_ORDER_MARK);
                write(&mut bytes, [COLUMNS.map(str::to_owned)].into_iter()).map_err(std::io::Error::other)?;
                None
            }
            Place::After(cursor) => Some(cursor),
            Place::End => return Ok(None),
        };
        let tenant = self.tenant.clone();
        let page =
            self.state.query(move |models| models.address_book.opt_outs(&tenant, after.as_ref(), PAGE)).await;
        // The status line is out already: a break is all that can still tell of a failure.
        let page = page.map_err(|_| std::io::Error::other("the export ended early"))?;
        write(&mut bytes, page.items.iter().map(row)).map_err(std::io::Error::other)?;
        self.place = page.next.map_or(Place::End, Place::After);
        Ok(Some((bytes.into(), self)))
    }
}

fn row(opt_out: &OptOut) -> [String; 4] {
    [
        harmless(&opt_out.address).into_owned(),
        harmless(opt_out.brand.as_deref().unwrap_or_default()).into_owned(),
        harmless(&opt_out.source).into_owned(),
        opt_out.refused_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    ]
}

fn write(bytes: &mut Vec<u8>, mut rows: impl Iterator<Item = [String; 4]>) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_writer(bytes);
    rows.try_for_each(|row| writer.write_record(row))?;
    writer.flush().map_err(Into::into)
}
