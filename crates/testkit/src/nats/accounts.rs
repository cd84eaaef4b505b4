//! Logins by signed papers: an operator signs accounts, an account signs users, and a server trusts the operator (in NATS's words:
//! decentralised JWT authentication).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator, an account whose users may do everything, and the account that servers talk to each other in.
pub struct Accounts {
    operator: String,
    system: (String, String),
    account: (String, String),
    signs: KeyPair,
}

impl Accounts {
    /// With new keys.
    ///
    /// # Errors
    /// None that is known.
    pub fn make() -> anyhow::Result<Self> {
        let (operator, system, account) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        // As much of everything as there is.
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let about = |limits: Value| json!({ "type": "account", "limits": limits });
        // Streams are not for the account of the servers.
        let bare = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        });
        let of_operator = json!({ "type": "operator", "system_account": system.public_key() });
        Ok(Self {
            operator: signed(&operator, &operator, "operator", of_operator)?,
            system: (system.public_key(), signed(&operator, &system, "system", about(bare))?),
            account: (account.public_key(), signed(&operator, &account, "kite", about(limits))?),
            signs: account,
        })
    }

    /// What a server has to be told to trust the operator.
    pub(super) fn configure(&self, configuration: &mut Value) {
        let [(system, of_system), (account, of_account)] = [&self.system, &self.account];
        configuration["operator"] = json!(self.operator);
        configuration["system_account"] = json!(system);
        configuration["resolver"] = json!("MEMORY");
        configuration["resolver_preload"] = json!({ system: of_system, account: of_account });
    }

    /// The text of a credentials file of a new user.
    ///
    /// # Errors
    /// None that is known.
    pub fn credentials(&self) -> anyhow::Result<String> {
        let user = KeyPair::new_user();
        let may_everything = json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 });
        let paper = signed(&self.signs, &user, "user", may_everything)?;
        let seed = user.seed()?;
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{paper}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        ))
    }
}

/// What one says of another, or of itself, with its signature.
fn signed(by: &KeyPair, of: &KeyPair, name: &str, mut about: Value) -> anyhow::Result<String> {
    about["version"] = json!(2);
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(), "name": name, "nats": about,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(by.sign(text.as_bytes())?);
    Ok(format!("{text}.{signature}"))
}
