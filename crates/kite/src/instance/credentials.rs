//! How the credentials of the relays are stored, for operators.

use kite_commands::vault::{Kept, Vault};
use kite_domain::relay::RelayDirectory;

/// What an operator should do about it; none: all present and future credentials are encrypted.
pub(super) fn in_words(vault: &Vault, relays: &RelayDirectory) -> Option<String> {
    let of = |wanted: Kept| {
        let is_kept_so = |profile| vault.kept(profile) == wanted;
        let names = relays.iter().filter(|(_, entry)| is_kept_so(&entry.profile)).map(|(id, _)| id.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let locked = relays.iter().filter_map(|(id, entry)| Some((id, vault.open(&entry.profile).err()?)));
    let locked: Vec<String> = locked.map(|(id, error)| format!("{id}: {error}")).collect();
    if !locked.is_empty() {
        return Some(format!("credentials that cannot be decrypted: {}", locked.join("; ")));
    }
    let in_the_clear = of(Kept::InTheClear);
    let older = of(Kept::WithOlderKey);
    match (vault.has_key(), in_the_clear.is_empty(), older.is_empty()) {
        (false, true, _) => Some(
            "there is no key to encrypt credentials with (secrets_keys_file): they are kept in the clear"
                .to_owned(),
        ),
        (false, false, _) => Some(format!(
            "there is no key to encrypt credentials with (secrets_keys_file); in the clear: {in_the_clear}"
        )),
        (true, false, _) => {
            Some(format!("credentials kept in the clear (kite secrets rotate): {in_the_clear}"))
        }
        (true, true, false) => {
            Some(format!("credentials encrypted with an older key (kite secrets rotate): {older}"))
        }
        (true, true, true) => None,
    }
}
