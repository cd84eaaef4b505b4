//! What a caller may say of a refusal, checked.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use kite_commands::directory::DirectoryState;
use kite_commands::manage::NewOptOut;
use kite_domain::address::Address;
use kite_domain::opt_out::brand_identity;
use kite_domain::slug::TenantId;
use smol_str::SmolStr;
use std::collections::HashMap;

use crate::problem::FieldError;
use crate::routes::contacts::check_length;

const SOURCE_CHARACTERS_MAX: usize = 100;
const BRAND_CHARACTERS_MAX: usize = 100;

/// Checks refusals of one request.
pub(super) struct Checks<'c> {
    tenant: &'c TenantId,
    directory: &'c DirectoryState,
    now: DateTime<Utc>,
    /// Brands that were looked for.
    brands: HashMap<SmolStr, bool>,
}

impl<'c> Checks<'c> {
    pub(super) fn new(tenant: &'c TenantId, directory: &'c DirectoryState, now: DateTime<Utc>) -> Self {
        Self { tenant, directory, now, brands: HashMap::new() }
    }

    /// The refusal, or everything that is wrong with it. A brand that no sender has is wrong: a refusal with a
    /// mistyped brand would stop nothing.
    pub(super) fn check(
        &mut self,
        address: &str,
        brand: Option<&str>,
        source: &str,
        refused_at: Option<DateTime<Utc>>,
    ) -> Result<NewOptOut, Vec<FieldError>> {
        let mut errors = Vec::new();
        let address = Address::parse(address)
            .map_err(|error| errors.push(FieldError::new("address", error.code(), error.to_string())))
            .ok();
        check_length("source", source, SOURCE_CHARACTERS_MAX, &mut errors);
        let brand = brand.map(str::trim).filter(|brand| !brand.is_empty());
        if let Some(brand) = brand {
            check_length("brand", brand, BRAND_CHARACTERS_MAX, &mut errors);
            if !self.is_known(brand) {
                let detail = format!("no sender of yours has the brand {brand}");
                errors.push(FieldError::new("brand", "brand_unknown", detail.replace('\0', "\u{fffd}")));
            }
        }
        if refused_at.is_some_and(|at| at > self.now) {
            let detail = "a refusal cannot have come at a time that is yet to come";
            errors.push(FieldError::new("refused_at", "in_the_future", detail));
        }
        match address.filter(|_| errors.is_empty()) {
            Some(address) => Ok(NewOptOut {
                address: address.as_str().into(),
                brand: brand.map(str::to_owned),
                source: source.to_owned(),
                refused_at,
            }),
            None => Err(errors),
        }
    }

    fn is_known(&mut self, brand: &str) -> bool {
        let is_there = || self.directory.has_brand(self.tenant, brand);
        *self.brands.entry(brand_identity(brand)).or_insert_with(is_there)
    }
}

/// A time as people write it in a table: RFC 3339, or a date, or a date and a time of day, in Seoul.
pub(super) fn time_of(text: &str) -> Result<DateTime<Utc>, FieldError> {
    const SEOUL_OFFSET_S: i32 = 9 * 3_600;
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let local = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN)));
    let seoul = FixedOffset::east_opt(SEOUL_OFFSET_S).expect("nine hours are less than a day");
    let time = local.and_then(|local| local.and_local_timezone(seoul).single());
    time.map(|time| time.to_utc()).ok_or_else(|| {
        let detail = "the time is not of the form 2026-03-02T13:00:00+09:00 or 2026-03-02";
        FieldError::new("refused_at", "time_unreadable", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_an_offset_is_one_in_seoul() {
        for text in
            ["2026-03-02T03:00:00Z", "2026-03-02T12:00:00+09:00", "2026-03-02 12:00", "2026-03-02 12:00:00"]
        {
            assert_eq!(time_of(text).unwrap().to_rfc3339(), "2026-03-02T03:00:00+00:00", "{text}");
        }
        assert_eq!(time_of("2026-03-02").unwrap().to_rfc3339(), "2026-03-01T15:00:00+00:00");
        for text in ["", "yesterday", "2026-02-30", "02.03.2026", "99999-01-01"] {
            assert_eq!(time_of(text).unwrap_err().code, "time_unreadable", "{text}");
        }
    }
}
