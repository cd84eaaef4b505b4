//! The text of a message: how it is counted, filled in, and which message type it needs.
//!
//! Relays count a Korean message in CP949 bytes of exactly what is sent, so every measure here is taken on the
//! [normalised](normalise) text, after substitution and with an advertisement's marking in it.

mod cp949;
mod international;
pub mod message_type;
mod normalise;
mod refusal;
mod template;

pub use cp949::{Cp949Length, OFFENDERS_MAX, Unmappable, UnmappableCharacter, measure};
pub use international::{PartEncoding, Parts, international_parts};
pub use message_type::{
    Channel, MaxType, MessageType, RequestedType, Resolved, TypeLimits, TypeRequest, UnknownMessageType,
    resolve, resolve_text,
};
pub use normalise::normalise;
pub use refusal::{TextPart, TextRefusal};
pub use template::{
    MeasureError, PLACEHOLDERS_MAX, RenderError, Template, TemplateError, VARIABLE_NAME_LENGTH_MAX,
    VARIABLES_MAX,
};
