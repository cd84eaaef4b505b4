//! Messages: one recipient's part of a sending, the unit of result.

pub mod events;
pub mod get;
pub mod search;
mod view;

pub use view::{AttemptView, MessageView};
