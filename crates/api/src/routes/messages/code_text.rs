//! The meaning of a code, in words: a relay's by its dictionary, one of Kite's own by its own list.

use kite_commands::directory::DirectoryState;
use kite_domain::codes::own_reason;
use kite_domain::slug::RelayId;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use utoipa::ToSchema;

/// What a code means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = CodeText)]
pub struct CodeTextView {
    /// In Korean.
    #[schema(value_type = String, example = "단말기 전원 꺼짐")]
    pub ko: Cow<'static, str>,
    /// In English.
    #[schema(value_type = String, example = "the handset is switched off")]
    pub en: Cow<'static, str>,
}

/// Explains codes by the relays' present dictionaries, and by the meanings that operators gave.
pub(crate) struct CodeTexts(Arc<DirectoryState>);

impl CodeTexts {
    pub(crate) fn new(directory: Arc<DirectoryState>) -> Self {
        Self(directory)
    }

    /// The meaning of a code of this relay, or of a word that Kite gave in its place.
    pub(super) fn of(&self, relay: Option<&RelayId>, code: &str) -> Option<CodeTextView> {
        if let Some((ko, en)) = own_reason(code) {
            return Some(CodeTextView { ko: ko.into(), en: en.into() });
        }
        let meaning = self.0.relays.get(relay?)?.meaning(&[code]);
        let owned = |text: &str| Cow::Owned(text.to_owned());
        Some(CodeTextView { ko: owned(meaning.text_ko), en: owned(meaning.text_en) })
    }
}
