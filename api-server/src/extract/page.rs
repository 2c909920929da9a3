//! Which part of a list is asked for: `cursor` and `limit`, `page` and `limit`, or `limit` and `offset`.

use axum::extract::FromRequestParts;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::request::Parts;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Query;
use crate::{
    error::{ApiError, Detail},
    reply::Pagination,
};

/// The largest page anyone gets.
pub const MAX_LIMIT: u32 = 100;
const DEFAULT_LIMIT: u32 = 20;

/// The query parameters of every list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many to return, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// Where to go on: `meta.pagination.nextCursor` of the page before. The stable way through a list that grows.
    cursor: Option<String>,
    /// The number of a page, from 1; the answer then has `total`.
    #[param(minimum = 1)]
    page: Option<u32>,
    /// How many to skip.
    offset: Option<u32>,
}

/// A page that was asked for, checked. Lists are newest first, by creation time and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub limit: u32,
    pub after: Option<(Timestamp, Uuid)>,
    pub number: Option<u32>,
    pub offset: u32,
}

impl Page {
    /// Rows to fetch: one more than to return, which tells whether there are more.
    pub fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Cuts the extra row off and says where the list goes on. `total` is told in page mode only.
    pub fn cut<T>(&self, rows: &mut Vec<T>, total: Option<i64>, key: impl Fn(&T) -> (Timestamp, Uuid)) -> Pagination {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(|row| encode(key(row)));
        let total = total.filter(|_| self.number.is_some());
        Pagination { limit: self.limit, has_more, next_cursor, page: self.number, total }
    }

    /// Whether the answer has `total`, which costs a count.
    pub fn wants_total(&self) -> bool {
        self.number.is_some()
    }
}

impl TryFrom<PageQuery> for Page {
    type Error = ApiError;

    fn try_from(query: PageQuery) -> Result<Self, ApiError> {
        let wrong = |field, message| Err(ApiError::validation(vec![Detail::new(field, "INVALID", message)]));
        let limit @ 1..=MAX_LIMIT = query.limit.unwrap_or(DEFAULT_LIMIT) else { return wrong("limit", "use 1 to 100") };
        if [query.cursor.is_some(), query.page.is_some(), query.offset.is_some()].iter().filter(|given| **given).count()
            > 1
        {
            return wrong("page", "give one of cursor, page and offset");
        }
        let offset = match query.page {
            Some(0) => return wrong("page", "pages are counted from 1"),
            Some(page) => (page - 1).saturating_mul(limit),
            None => query.offset.unwrap_or(0),
        };
        let after = match query.cursor.as_deref().map(decode) {
            Some(None) => return wrong("cursor", "give meta.pagination.nextCursor of the page before, unchanged"),
            Some(after) => after,
            None => None,
        };
        Ok(Self { limit, after, number: query.page, offset })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<PageQuery>::from_request_parts(parts, state).await?;
        query.try_into()
    }
}

/// Opaque, and not signed: a forged cursor only moves the reader within what row-level security shows them anyway.
fn encode((at, id): (Timestamp, Uuid)) -> String {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&at.as_microsecond().to_be_bytes());
    bytes[8..].copy_from_slice(id.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(cursor: &str) -> Option<(Timestamp, Uuid)> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (at, id) = bytes.split_first_chunk::<8>()?;
    Some((Timestamp::from_microsecond(i64::from_be_bytes(*at)).ok()?, Uuid::from_slice(id).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let key = (Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(), Uuid::now_v7());
        assert_eq!(decode(&encode(key)), Some(key));
        assert_eq!(decode("nonsense"), None);
    }

    #[test]
    fn a_page_is_one_of_three_ways() {
        let page = |query: PageQuery| Page::try_from(query);
        let third = page(PageQuery { page: Some(3), limit: Some(10), ..PageQuery::default() }).unwrap();
        assert_eq!((third.offset, third.limit, third.number), (20, 10, Some(3)));
        for bad in [
            PageQuery { limit: Some(0), ..PageQuery::default() },
            PageQuery { limit: Some(101), ..PageQuery::default() },
            PageQuery { page: Some(0), ..PageQuery::default() },
            PageQuery { page: Some(1), offset: Some(1), ..PageQuery::default() },
            PageQuery { cursor: Some("!".into()), ..PageQuery::default() },
        ] {
            assert_eq!(page(bad).unwrap_err().code(), "VALIDATION_ERROR");
        }
    }
}
