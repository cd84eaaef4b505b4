//! The process itself: is it alive, is it ready, how is it doing, how is it used.

pub mod docs;
pub mod health;
pub mod metrics;
pub mod problems;
pub mod ready;
