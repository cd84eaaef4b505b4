//! Messages: one recipient's part of a sending, the unit of result.

mod code_text;
pub mod events;
pub mod get;
pub mod search;
mod view;

pub use code_text::CodeTextView;
pub use view::{AttemptView, MessageView};

pub(crate) use code_text::CodeTexts;
