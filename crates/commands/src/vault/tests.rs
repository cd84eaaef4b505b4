use super::*;
use kite_domain::relay::{Endpoint, ReceiptMode, RelayTls};
use kite_domain::slug::RelayId;
use std::collections::BTreeMap;

fn profile(relay: &str) -> RelayProfile {
    RelayProfile {
        relay: RelayId::from_trusted(relay),
        name: relay.to_owned(),
        endpoint: Endpoint::Http { base_url: "http://relay.example".to_owned() },
        channels: BTreeMap::new(),
        reaches: Vec::new(),
        batch_max: 100,
        rate_parts_per_second: None,
        calls_in_flight_max: 8,
        answer_timeout_ms: 5_000,
        deduplicates: false,
        answers_status: false,
        receipts: ReceiptMode::Push,
        codes: "solapi".into(),
        tls: RelayTls::default(),
        credentials: RelayCredentials {
            api_key: Some("open sesame".to_owned()),
            user: None,
            receipt_secret: Some("whsec_c2VjcmV0".to_owned()),
            client_key: None,
        },
    }
}

fn closed(vault: &Vault, relay: &str) -> RelayProfile {
    let plain = profile(relay);
    RelayProfile { credentials: vault.close(&plain).unwrap(), ..plain }
}

fn vault(ids: &[&str]) -> Vault {
    let line = |id: &&str| Vault::line(id, &[id.len() as u8; KEY_BYTES]);
    Vault::parse(&ids.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap()
}

#[test]
fn what_goes_into_the_log_opens_nothing_and_comes_back_as_it_was() {
    let vault = vault(&["k1"]);
    let kept = closed(&vault, "alpha");
    let text = serde_json::to_string(&kept).unwrap();
    assert!(!text.contains("sesame") && !text.contains("c2VjcmV0"), "{text}");
    assert!(text.contains("encrypted:1:k1:"), "{text}");
    assert_eq!(vault.open(&kept).unwrap(), profile("alpha"));
    let secret = vault.open_one(&kept, Credential::ReceiptSecret).unwrap();
    assert_eq!(secret.as_deref(), Some("whsec_c2VjcmV0"));
    assert_eq!(vault.open_one(&kept, Credential::User).unwrap(), None);
}

#[test]
fn the_same_credential_never_looks_the_same() {
    let vault = vault(&["k1"]);
    assert_ne!(closed(&vault, "alpha").credentials, closed(&vault, "alpha").credentials);
}

#[test]
fn without_a_key_credentials_stay_as_they_are() {
    let vault = Vault::default();
    assert!(!vault.has_key());
    assert_eq!(closed(&vault, "alpha"), profile("alpha"));
    assert_eq!(vault.open(&profile("alpha")).unwrap(), profile("alpha"));
    assert_eq!(vault.kept(&profile("alpha")), Kept::InTheClear);
}

#[test]
fn a_new_key_takes_over_and_the_old_one_still_opens() {
    let old = closed(&vault(&["k1"]), "alpha");
    let both = vault(&["key-2", "k1"]);
    assert_eq!(both.kept(&old), Kept::WithOlderKey);
    assert_eq!(both.open(&old).unwrap(), profile("alpha"));
    let anew = RelayProfile { credentials: both.close(&old).unwrap(), ..old.clone() };
    assert_eq!(both.kept(&anew), Kept::Encrypted);
    assert_eq!(vault(&["key-2"]).open(&anew).unwrap(), profile("alpha"));
    assert_eq!(both.close(&anew).unwrap(), anew.credentials, "once is enough");
}

#[test]
fn without_its_key_it_stays_closed_and_the_key_is_named() {
    let old = closed(&vault(&["k1"]), "alpha");
    let wanted = DecryptError::NoKey { field: "credentials.api_key", key: "k1".into() };
    for other in [vault(&["key-2"]), Vault::default()] {
        assert_eq!(other.open(&old), Err(wanted.clone()));
    }
    assert_eq!(vault(&["key-2"]).close(&old), Err(wanted));
}

#[test]
fn what_was_changed_or_moved_is_not_believed() {
    let vault = vault(&["k1"]);
    let kept = closed(&vault, "alpha");
    let refused = Err(DecryptError::NotAuthentic { field: "credentials.api_key" });
    let elsewhere = RelayProfile { relay: RelayId::from_trusted("beta"), ..kept.clone() };
    assert_eq!(vault.open(&elsewhere), refused, "another relay");
    let mut swapped = kept.clone();
    swapped.credentials.api_key.clone_from(&kept.credentials.receipt_secret);
    assert_eq!(vault.open(&swapped), refused, "another field");
    for broken in ["encrypted:1:k1:", "encrypted:1:k1:!", "encrypted:1:k1:AAAA"] {
        let mut changed = kept.clone();
        changed.credentials.api_key = Some(broken.to_owned());
        assert_eq!(vault.open(&changed), refused, "{broken}");
    }
    let mut changed = kept;
    let text = changed.credentials.api_key.as_mut().unwrap();
    let other = if text.as_bytes()[20] == b'A' { "B" } else { "A" };
    text.replace_range(20..=20, other);
    assert!(vault.open(&changed).is_err());
}

#[test]
fn a_line_that_is_no_key_is_named_and_not_repeated() {
    let good = Vault::line("k1", &[7; KEY_BYTES]);
    let cases = [
        ("k1", "must be an id, a blank and the key"),
        ("k:1 AAAA", "the id must be 1 to 40 letters, digits, - and _"),
        ("k1 secret!", "the key is not base64"),
        ("k1 c2VjcmV0", "the key must have 32 bytes (kite secrets key makes one)"),
        (good.as_str(), "there is a key of this id already"),
    ];
    for (line, reason) in cases {
        let text = format!("# keys\n\n{good}\n{line}\n");
        assert_eq!(Vault::parse(&text).err(), Some(KeysError::Line { line: 4, reason }), "{line}");
    }
    assert!(!Vault::parse("# none\n").unwrap().has_key());
    assert_eq!(format!("{:?}", Vault::parse(&good).unwrap()), "[\"k1\"]");
}
