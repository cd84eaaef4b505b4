//! The demo's HTTP client: what any customer of the API would write.

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// Calls one Kite with one key. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base_url: String,
    key: String,
}

impl Client {
    /// Speaks to this address under this key.
    pub(super) fn new(base_url: &str, key: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { http, base_url: base_url.to_owned(), key: key.to_owned() })
    }

    /// The same under another key.
    pub(super) fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A JSON request that has to succeed.
    pub(super) async fn json(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, answer) = self.try_json(method.clone(), path, body).await?;
        if !status.is_success() {
            bail!("{method} {path} answered {status}: {answer}");
        }
        Ok(answer)
    }

    /// A JSON request, whatever its answer.
    pub(super) async fn try_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let request =
            self.http.request(method, format!("{}{path}", self.base_url)).bearer_auth(&self.key).json(body);
        let response = request.send().await.with_context(|| format!("{path} cannot be reached"))?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Uploads CSV; has to succeed.
    pub(super) async fn csv(&self, path: &str, text: String) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base_url)).bearer_auth(&self.key);
        let response = request.header("content-type", "text/csv; charset=utf-8").body(text).send().await?;
        let status = response.status();
        let answer = response.text().await?;
        if !status.is_success() {
            bail!("POST {path} answered {status}: {answer}");
        }
        Ok(serde_json::from_str(&answer)?)
    }

    /// Sends under an idempotency key; waits and tries again as long as the answer is "too busy".
    pub(super) async fn send(&self, idempotency_key: &str, body: &Value) -> anyhow::Result<Value> {
        loop {
            let request = self.http.post(format!("{}/v1/sendings", self.base_url)).bearer_auth(&self.key);
            let response = request.header("idempotency-key", idempotency_key).json(body).send().await?;
            let status = response.status();
            if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
                let wait_s = response
                    .headers()
                    .get("retry-after")
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .unwrap_or(1);
                super::progress::pause(Duration::from_secs(wait_s)).await;
                continue;
            }
            let text = response.text().await?;
            if !status.is_success() {
                bail!("POST /v1/sendings answered {status}: {text}");
            }
            return Ok(serde_json::from_str(&text)?);
        }
    }
}
