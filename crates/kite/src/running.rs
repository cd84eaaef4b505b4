//! A running instance, as an operator's command calls it: over its API, with the operator's key.

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

use crate::config::Config;
use crate::own_client::client_for;

/// The environment variable with an operator's own key.
const OPERATOR_KEY: &str = "KITE_KEY";
/// Longer than the slowest answer takes: the check of a relay.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where it is, and the key.
pub(crate) struct Running {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Running {
    /// The instance of this configuration, or the one at this address.
    pub(crate) fn of(config: &Config, url: Option<&str>) -> anyhow::Result<Self> {
        let key = std::env::var(OPERATOR_KEY).unwrap_or_else(|_| config.admin_key.clone());
        if key.is_empty() {
            bail!(
                "an operator's key is needed: set {OPERATOR_KEY}, or KITE_ADMIN_KEY or admin_key in the configuration"
            );
        }
        let (builder, url) = client_for(config, url)?;
        Ok(Self { http: builder.timeout(ANSWER_TIMEOUT).build()?, url, key })
    }

    /// Its answer.
    ///
    /// # Errors
    /// If it cannot be reached, or in its own words if it refuses.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key);
        let answer = request
            .send()
            .await
            .with_context(|| format!("{} cannot be reached; is it running?", self.url))?;
        let status = answer.status();
        let body: Value = answer.json().await.with_context(|| format!("{path} answered {status}"))?;
        match status.is_success() {
            true => Ok(body),
            false => bail!("{path} answered {status}: {}", body["detail"].as_str().unwrap_or_default()),
        }
    }
}
