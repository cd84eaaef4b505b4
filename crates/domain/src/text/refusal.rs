//! Why a recipient's text cannot be sent.

use super::cp949::Unmappable;
use super::message_type::{MaxType, MessageType};
use super::template::RenderError;
use serde::Serialize;
use smol_str::SmolStr;
use strum::{IntoStaticStr, VariantArray};

/// Which text a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::Display, VariantArray, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TextPart {
    /// The subject.
    Subject,
    /// The text itself.
    Text,
}

/// Why a recipient's text cannot be sent. Serialises with its stable code and its details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, IntoStaticStr)]
#[serde(tag = "code", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TextRefusal {
    /// The recipient has no value for a variable.
    #[error("the variable {name} has no value")]
    MissingVariable {
        /// The name of the variable.
        name: SmolStr,
    },
    /// A value would bring `#{` into what is sent.
    #[error("the {part} with its values would hold a literal #{{ at index {position}")]
    PlaceholderInResult {
        /// In which text.
        part: TextPart,
        /// Where, in characters from 0.
        position: usize,
    },
    /// Characters that a Korean text message cannot hold.
    #[error("{part}: {unmappable}")]
    UnmappableCharacters {
        /// In which text.
        part: TextPart,
        /// The characters.
        #[serde(flatten)]
        unmappable: Unmappable,
    },
    /// There is no text, or nothing but spaces and line breaks.
    #[error("the text is empty")]
    TextEmpty,
    /// A control character, which each handset shows differently. Line breaks and tabs are allowed.
    #[error("the {part} holds the control character U+{:04X} at index {position}", u32::from(*character))]
    ControlCharacter {
        /// In which text.
        part: TextPart,
        /// The first such character.
        character: char,
        /// Where, in characters from 0.
        position: usize,
    },
    /// The text is longer than the type takes.
    #[error("the text has {bytes} bytes; {message_type} takes at most {bytes_max}")]
    TextTooLong {
        /// The type that was tried.
        message_type: MessageType,
        /// Bytes of the text.
        bytes: usize,
        /// Most bytes of that type.
        bytes_max: usize,
    },
    /// With the values of its variables it is longer than any type takes.
    #[error("the {part} with the values of its variables has more than {bytes_max} bytes")]
    FilledInTooLong {
        /// Which text.
        part: TextPart,
        /// Most bytes.
        bytes_max: usize,
    },
    /// A text to another country takes too many parts.
    #[error("the text takes {parts} parts; at most {parts_max} are sent to another country")]
    TooManyParts {
        /// Parts that the text takes.
        parts: usize,
        /// Most parts allowed.
        parts_max: usize,
    },
    /// The subject is longer than the type takes.
    #[error("the subject has {bytes} bytes; {message_type} takes at most {bytes_max}")]
    SubjectTooLong {
        /// The type.
        message_type: MessageType,
        /// Bytes of the subject.
        bytes: usize,
        /// Most bytes of a subject.
        bytes_max: usize,
    },
    /// The subject has more than one line.
    #[error("the subject must be a single line")]
    SubjectLineBreak,
    /// The type has no subject, and dropping the subject would be cutting.
    #[error("{message_type} has no subject")]
    SubjectNotForType {
        /// The type.
        message_type: MessageType,
    },
    /// The text needs a more expensive type than the request allows.
    #[error("the text of {bytes} bytes needs {needed}, but at most {max_type} is allowed")]
    PromotionRefused {
        /// The type that it needs.
        needed: MessageType,
        /// The dearest type allowed.
        max_type: MaxType,
        /// Bytes of the text.
        bytes: usize,
        /// Most bytes of an sms; a text within it needs more because of its subject or because it was asked for.
        bytes_max: usize,
    },
    /// The type asked for cannot go to this kind of address.
    #[error("{message_type} cannot go to such an address")]
    AddressNotForType {
        /// The type asked for.
        message_type: MessageType,
    },
    /// The type is not supported yet.
    #[error("{message_type} is not supported yet")]
    TypeNotSupported {
        /// The type asked for, or that an image needs.
        message_type: MessageType,
    },
}

impl TextRefusal {
    /// Stable code for problem documents and stored reasons.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }

    pub(super) fn from_render(part: TextPart, error: RenderError) -> Self {
        match error {
            RenderError::MissingVariable { name } => Self::MissingVariable { name },
            RenderError::PlaceholderInResult { position } => Self::PlaceholderInResult { part, position },
            RenderError::TooLong { bytes_max } => Self::FilledInTooLong { part, bytes_max },
        }
    }

    pub(super) fn from_unmappable(part: TextPart, unmappable: Unmappable) -> Self {
        Self::UnmappableCharacters { part, unmappable }
    }
}
