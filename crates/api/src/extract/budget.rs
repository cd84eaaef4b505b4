//! How much memory all request bodies together may take.
//!
//! A body of up to 64 KiB is not counted: a single message must not wait behind, or be refused because of, campaigns.

use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Answer, Code, Problem};

/// A permit stands for this many bytes.
const UNIT_BYTES: usize = 1 << 10;
/// Bodies up to this size are free.
const FREE_BYTES: usize = 64 << 10;

/// The budget. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget {
    units: Arc<Semaphore>,
}

impl BodyBudget {
    /// A budget of this many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { units: Arc::new(Semaphore::new((bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS))) }
    }

    /// A body that grows within the budget.
    pub(crate) fn begin(&self, expected_bytes: usize) -> Answer<GrowingBody> {
        let mut body = GrowingBody { bytes: BytesMut::new(), held: None, budget: self.clone() };
        body.reserve(expected_bytes)?;
        body.bytes.reserve(expected_bytes);
        Ok(body)
    }
}

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct GrowingBody {
    bytes: BytesMut,
    held: Option<OwnedSemaphorePermit>,
    budget: BodyBudget,
}

impl GrowingBody {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes more in.
    pub(crate) fn extend(&mut self, chunk: &[u8]) -> Answer<()> {
        self.reserve(self.bytes.len() + chunk.len())?;
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// All of it.
    pub(crate) fn finish(self) -> HeldBody {
        HeldBody { bytes: self.bytes.freeze(), _held: self.held }
    }

    fn reserve(&mut self, total_bytes: usize) -> Answer<()> {
        if total_bytes <= FREE_BYTES {
            return Ok(());
        }
        let units = total_bytes.div_ceil(UNIT_BYTES);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(missing) = units.checked_sub(held).filter(|missing| *missing > 0) else { return Ok(()) };
        let permits = self
            .budget
            .units
            .clone()
            .try_acquire_many_owned(u32::try_from(missing).unwrap_or(u32::MAX))
            .map_err(|_| Problem::new(Code::Busy, "Too many large requests are being worked on."))?;
        match &mut self.held {
            Some(held) => held.merge(permits),
            None => self.held = Some(permits),
        }
        Ok(())
    }
}

/// A whole body. Its share of the budget is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBody {
    /// The body.
    pub(crate) bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_the_budget_and_give_it_back() {
        let budget = BodyBudget::new(256 << 10);
        let first = budget.begin(200 << 10).unwrap().finish();
        assert_eq!(budget.begin(100 << 10).unwrap_err().code(), Code::Busy);
        drop(first);
        assert!(budget.begin(100 << 10).is_ok());
    }

    #[test]
    fn small_bodies_pass_even_when_nothing_is_left() {
        let budget = BodyBudget::new(0);
        let mut small = budget.begin(0).unwrap();
        small.extend(&[b'x'; FREE_BYTES]).unwrap();
        assert_eq!(small.extend(b"x").unwrap_err().code(), Code::Busy);
        assert_eq!(small.finish().bytes.len(), FREE_BYTES);
    }

    #[test]
    fn a_body_of_unknown_length_is_counted_as_it_grows() {
        let budget = BodyBudget::new(128 << 10);
        let mut body = budget.begin(0).unwrap();
        for _ in 0..4 {
            body.extend(&[0; 32 << 10]).unwrap();
        }
        assert_eq!(body.extend(&[0; 1 << 10]).unwrap_err().code(), Code::Busy);
    }
}
