//! Which page of a list is wanted, or whether all of it as a file.
//!
//! A list takes [`PageOf`] or [`PageOrFile`] and says nothing of `cursor`, `limit` and `format` itself: neither how they are read
//! nor how they are described. What a page is read from is as new as it must be when a handler begins
//! ([`freshness`](crate::freshness)).

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use kite_domain::slug::TenantId;
use kite_projections::{Cursor, Listing, QueryError, ReadModels};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::query::read_apart;
use crate::answer::Page;
use crate::export::{FileFormat, FormatWord, Listed, export};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// Items on a page if nothing is said.
const PAGE_SIZE: usize = 50;
/// The most items on a page.
const PAGE_SIZE_MAX: usize = 200;

/// A list, by the parameters that say which of its items are wanted.
pub trait List: DeserializeOwned + IntoParams + Send + 'static {
    /// Stands in the cursors of the list, so that no other takes them. Read by nobody else: a cursor is opaque.
    const NAME: &'static str;
    /// The most items of a piece of a file.
    const PIECE: usize = PAGE_SIZE_MAX;
}

/// The page of a list that is wanted.
#[derive(Debug)]
pub(crate) struct Wanted<L> {
    /// It begins after this place; none: it is the first.
    pub(crate) after: Option<Cursor>,
    /// The most items on it.
    pub(crate) limit: usize,
    of: PhantomData<fn() -> L>,
}

impl<L: List> Wanted<L> {
    fn page(cursor: Option<&str>, limit: Option<usize>) -> Answer<Self> {
        let after = place_in::<L>(cursor)?;
        let limit = limit.unwrap_or(PAGE_SIZE);
        if !(1..=PAGE_SIZE_MAX).contains(&limit) {
            return Err(Problem::new(Code::InvalidParameter, "The parameter limit must be 1 to 200."));
        }
        Ok(Self { after, limit, of: PhantomData })
    }

    /// The piece of a file that begins after a cursor.
    pub(crate) fn piece(cursor: Option<&str>) -> Answer<Self> {
        Ok(Self { after: place_in::<L>(cursor)?, limit: L::PIECE, of: PhantomData })
    }

    /// After which place, in a list whose places are named by texts.
    pub(crate) fn after_text(&self) -> Answer<Option<&str>> {
        Ok(self.after.as_ref().map(Cursor::text).transpose()?)
    }

    /// Reads the page from a read model.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        state: &ApiState,
        query: impl FnOnce(&ReadModels, Option<&Cursor>, usize) -> Result<Listing<T>, QueryError> + Send + 'static,
    ) -> Answer<Page<T>> {
        let Self { after, limit, .. } = self;
        let listing = state.query(move |models| query(models, after.as_ref(), limit)).await?;
        Ok(Page { items: listing.items, next: listing.next.map(|place| Self::cursor(&place)) })
    }

    /// How a place in this list is handed out.
    pub(crate) fn cursor(place: &Cursor) -> String {
        format!("{}.{place}", L::NAME)
    }
}

/// The place that a cursor of this list names.
fn place_in<L: List>(cursor: Option<&str>) -> Answer<Option<Cursor>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let unreadable = || Problem::new(Code::InvalidCursor, "The cursor cannot be read.");
    let (list, place) = cursor.split_once('.').ok_or_else(unreadable)?;
    if list != L::NAME {
        return Err(QueryError::Cursor.into());
    }
    place.parse().map(Some).map_err(|_| unreadable())
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// The `next` of the page before; none: the first page.
    cursor: Option<String>,
    /// How many items at most, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// Which page of a list, or whether a file.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PagingOrFile {
    /// The `next` of the page before; none: the first page.
    cursor: Option<String>,
    /// How many at most on a page, 1 to 200. Not with a file, which holds all of them.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// All of them from the cursor on as a file: `csv` or `ndjson`. The header `accept` does the same.
    format: Option<FormatWord>,
}

const PAGING: &[&str] = &["cursor", "limit"];
const PAGING_OR_FILE: &[&str] = &["cursor", "limit", "format"];

/// A page of a list: which items, and which page of them.
#[derive(Debug)]
pub struct PageOf<L> {
    /// Which items.
    pub(crate) query: L,
    /// Which page.
    pub(crate) page: Wanted<L>,
}

impl<L: List> FromRequestParts<ApiState> for PageOf<L> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &ApiState) -> Answer<Self> {
        let (query, Paging { cursor, limit }) = read_apart(&parts.uri, PAGING)?;
        Ok(Self { query, page: Wanted::page(cursor.as_deref(), limit)? })
    }
}

impl<L: IntoParams> IntoParams for PageOf<L> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [L::into_params(&place), Paging::into_params(&place)].concat()
    }
}

/// A page of a list, or all of it as a file: which items, and in which form.
#[derive(Debug)]
pub struct PageOrFile<L> {
    /// Which items.
    pub(crate) query: L,
    /// In which form.
    pub(crate) form: Form<L>,
}

/// In which form a list is wanted.
#[derive(Debug)]
pub(crate) enum Form<L> {
    /// This page.
    Page(Wanted<L>),
    /// A file with everything after a cursor.
    File(FileFormat, Option<String>),
}

impl<L: List> FromRequestParts<ApiState> for PageOrFile<L> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &ApiState) -> Answer<Self> {
        let (query, PagingOrFile { cursor, limit, format }) = read_apart(&parts.uri, PAGING_OR_FILE)?;
        let form = match FileFormat::of(format, &parts.headers) {
            None => Form::Page(Wanted::page(cursor.as_deref(), limit)?),
            Some(_) if limit.is_some() => return Err(limit_of_a_file()),
            Some(format) => Form::File(format, cursor),
        };
        Ok(Self { query, form })
    }
}

impl<L: IntoParams> IntoParams for PageOrFile<L> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [L::into_params(&place), PagingOrFile::into_params(&place)].concat()
    }
}

/// A file has no pages.
fn limit_of_a_file() -> Problem {
    let detail = "The parameter limit is for pages; a file holds everything that is asked for.";
    Problem::new(Code::Refused, detail).at(FieldError::new("limit", "not_with_a_file", "it is for pages"))
}

impl<L: List> Form<L> {
    /// Answers in this form. `read` gives one page after another, each with what it needs for that; a file is written for
    /// `whose`, or an operator.
    pub(crate) async fn answer<T, W, F>(
        self,
        state: &ApiState,
        whose: Option<&TenantId>,
        with: W,
        read: impl Fn(ApiState, W, Wanted<L>) -> F + Send + Sync + 'static,
    ) -> Answer<Response>
    where
        T: Listed,
        W: Clone + Send + Sync + 'static,
        F: Future<Output = Answer<Page<T>>> + Send + 'static,
    {
        let (format, cursor) = match self {
            Self::Page(page) => return Ok(Json(read(state.clone(), with, page).await?).into_response()),
            Self::File(format, cursor) => (format, cursor),
        };
        let source = state.clone();
        let pieces = move |cursor: Option<String>| match Wanted::piece(cursor.as_deref()) {
            Ok(piece) => read(source.clone(), with.clone(), piece).boxed(),
            Err(problem) => std::future::ready(Err(problem)).boxed(),
        };
        export(state, whose, format, cursor, Box::new(pieces)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, IntoParams)]
    #[serde(deny_unknown_fields)]
    struct Ours {}

    impl List for Ours {
        const NAME: &'static str = "ours";
    }

    #[derive(Debug, Deserialize, IntoParams)]
    #[serde(deny_unknown_fields)]
    struct Theirs {}

    impl List for Theirs {
        const NAME: &'static str = "theirs";
    }

    #[test]
    fn a_page_has_one_to_two_hundred_items() {
        let size = |limit| Wanted::<Ours>::page(None, limit).map(|page| page.limit);
        assert_eq!(size(None), Ok(50));
        assert_eq!(size(Some(200)), Ok(200));
        for limit in [0, 201, usize::MAX] {
            assert_eq!(size(Some(limit)).unwrap_err().code(), Code::InvalidParameter);
        }
    }

    #[test]
    fn a_cursor_reads_back_in_its_list_and_in_no_other() {
        let place = Cursor::of_text("acme 0212345678");
        let cursor = Wanted::<Ours>::cursor(&place);
        assert_eq!(Wanted::<Ours>::page(Some(&cursor), None).unwrap().after, Some(place.clone()));
        assert_eq!(Wanted::<Ours>::piece(Some(&cursor)).unwrap().after_text(), Ok(Some("acme 0212345678")));
        let bare = place.to_string();
        for cursor in [cursor.as_str(), &bare, "", ".", "theirs", "theirs.", "theirs.zz"] {
            let refused = Wanted::<Theirs>::page(Some(cursor), None).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidCursor, "{cursor}");
        }
    }

    #[test]
    fn what_is_read_apart_is_what_is_described() {
        let names = |parameters: Vec<Parameter>| {
            parameters.into_iter().map(|parameter| parameter.name).collect::<Vec<_>>()
        };
        assert_eq!(names(PageOf::<Ours>::into_params(|| None)), PAGING);
        assert_eq!(names(PageOrFile::<Ours>::into_params(|| None)), PAGING_OR_FILE);
    }
}
