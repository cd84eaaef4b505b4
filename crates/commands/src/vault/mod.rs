//! Credentials are encrypted before they go into the log, and decrypted where they are used.
//!
//! So a copy of the data directory gives no access to a relay's account. AES-256-GCM under a key from outside the
//! data directory. Every key has an id, so that a new one can take over while the old one can still decrypt what it
//! encrypted ([`Manage::rotate_secrets`]). Encrypted text is bound to its place: the key of one relay cannot be put
//! in the place of another's.
//!
//! Deliberately absent: removing unencrypted credentials from the log that are older than the key. Events are for
//! ever; such a credential must be changed at the relay.
//!
//! [`Manage::rotate_secrets`]: crate::manage::Manage::rotate_secrets

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kite_domain::relay::{Credential, ENCRYPTED, RelayCredentials, RelayProfile};
use smol_str::SmolStr;

/// The length of a key, in bytes.
pub const KEY_BYTES: usize = 32;
/// The longest id of a key, in characters.
const KEY_ID_MAX: usize = 40;

/// The keys, the newest first. Without one, credentials stay as they are given.
#[derive(Default)]
pub struct Vault {
    keys: Vec<Key>,
}

struct Key {
    id: SmolStr,
    key: RandomizedNonceKey,
}

/// A list of keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// A line that is not a key. The error does not repeat it.
    #[error("line {line}: {reason}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Something encrypted that cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// Its key is not here.
    #[error("{field} is encrypted with the key {key:?}, which this process does not have")]
    NoKey {
        /// Which field.
        field: &'static str,
        /// The id of the key.
        key: SmolStr,
    },
    /// It was changed, or belongs to another place.
    #[error("{field} cannot be decrypted: it was changed, or encrypted for something else")]
    NotAuthentic {
        /// Which field.
        field: &'static str,
    },
}

/// What the credentials of a profile are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// There are none.
    Nothing,
    /// All of them are encrypted with the newest key.
    Encrypted,
    /// At least one is encrypted with an older key.
    WithOlderKey,
    /// At least one lies in the log as it is.
    InTheClear,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl Vault {
    /// Reads keys: one per line, its id, a blank and its 32 bytes in base64. The first is the one that encrypts. Empty lines and
    /// those that begin with # are passed over.
    ///
    /// # Errors
    /// Names the line, never what it holds.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys: Vec<Key> = Vec::new();
        for (place, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason| KeysError::Line { line: place + 1, reason };
            let key = Key::parse(line).map_err(wrong)?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(wrong("there is a key of this id already"));
            }
            keys.push(key);
        }
        Ok(Self { keys })
    }

    /// A line for [`Vault::parse`].
    pub fn line(id: &str, key: &[u8; KEY_BYTES]) -> String {
        format!("{id} {}", STANDARD.encode(key))
    }

    /// Whether there is a key.
    pub fn has_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The credentials as they go into the log. What is encrypted with the newest key stays as it is; what is encrypted with
    /// an older one is encrypted again.
    ///
    /// # Errors
    /// If something is encrypted with a key that is not here.
    pub fn close(&self, profile: &RelayProfile) -> Result<RelayCredentials, DecryptError> {
        let Some(newest) = self.keys.first() else { return Ok(profile.credentials.clone()) };
        let mut closed = profile.credentials.clone();
        for (credential, text) in closed.each_mut() {
            let Some(text) = text else { continue };
            if Encrypted::parse(text).is_some_and(|encrypted| encrypted.key == newest.id) {
                continue;
            }
            let plain = self.decrypt(profile, credential, text)?;
            *text = newest.encrypt(&place(profile, credential, &newest.id), plain);
        }
        Ok(closed)
    }

    /// The profile with its credentials as the relay knows them.
    ///
    /// # Errors
    /// If something cannot be decrypted.
    pub fn open(&self, profile: &RelayProfile) -> Result<RelayProfile, DecryptError> {
        let mut open = profile.clone();
        for (credential, text) in open.credentials.each_mut() {
            if let Some(text) = text {
                *text = self.decrypt(profile, credential, text)?;
            }
        }
        Ok(open)
    }

    /// One credential as the relay knows it, if there is one.
    ///
    /// # Errors
    /// If it cannot be decrypted.
    pub fn open_one(
        &self,
        profile: &RelayProfile,
        credential: Credential,
    ) -> Result<Option<String>, DecryptError> {
        let text = profile.credentials.get(credential);
        text.map(|text| self.decrypt(profile, credential, text)).transpose()
    }

    /// How the credentials lie in the log.
    pub fn kept(&self, profile: &RelayProfile) -> Kept {
        let newest = self.keys.first().map(|key| &key.id);
        let each = profile.credentials.each();
        let kept = each.filter_map(|(_, text)| text).map(|text| match Encrypted::parse(text) {
            None => Kept::InTheClear,
            Some(encrypted) if newest == Some(&encrypted.key) => Kept::Encrypted,
            Some(_) => Kept::WithOlderKey,
        });
        kept.fold(Kept::Nothing, |worst, kept| if kept as u8 > worst as u8 { kept } else { worst })
    }

    fn decrypt(
        &self,
        profile: &RelayProfile,
        credential: Credential,
        text: &str,
    ) -> Result<String, DecryptError> {
        let field = credential.field();
        let Some(encrypted) = Encrypted::parse(text) else { return Ok(text.to_owned()) };
        let key = self.keys.iter().find(|key| key.id == encrypted.key);
        let key = key.ok_or_else(|| DecryptError::NoKey { field, key: encrypted.key.clone() })?;
        let plain = key.decrypt(&place(profile, credential, &key.id), encrypted.bytes);
        plain.ok_or(DecryptError::NotAuthentic { field })
    }
}

/// What is authenticated together with a credential: the place that it belongs to.
fn place(profile: &RelayProfile, credential: Credential, key: &str) -> String {
    format!("kite relay {} {} {key}", profile.relay, credential.name())
}

impl Key {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let (id, key) = line.split_once(char::is_whitespace).ok_or("must be an id, a blank and the key")?;
        let is_id = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if id.len() > KEY_ID_MAX || !id.chars().all(is_id) {
            return Err("the id must be 1 to 40 letters, digits, - and _");
        }
        let bytes = STANDARD.decode(key.trim()).map_err(|_| "the key is not base64")?;
        if bytes.len() != KEY_BYTES {
            return Err("the key must have 32 bytes (kite secrets key makes one)");
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| "the key cannot be used")?;
        Ok(Self { id: id.into(), key })
    }

    fn encrypt(&self, place: &str, plain: String) -> String {
        let mut bytes = plain.into_bytes();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut bytes)
            .expect("a credential is short, and the machine's randomness is there");
        let whole = [&nonce.as_ref()[..], &bytes].concat();
        format!("{ENCRYPTED}{}:{}", self.id, STANDARD.encode(whole))
    }

    fn decrypt(&self, place: &str, mut bytes: Vec<u8>) -> Option<String> {
        let mut rest = bytes.split_off(NONCE_LEN.min(bytes.len()));
        let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }
}

/// A credential as it is stored in the log: [`ENCRYPTED`], the id of the key, a colon, and nonce and text in base64.
struct Encrypted {
    key: SmolStr,
    /// None of it, if it is not base64: then it cannot be decrypted.
    bytes: Vec<u8>,
}

impl Encrypted {
    fn parse(text: &str) -> Option<Self> {
        let (key, bytes) = text.strip_prefix(ENCRYPTED)?.split_once(':').unwrap_or_default();
        Some(Self { key: key.into(), bytes: STANDARD.decode(bytes).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests;
