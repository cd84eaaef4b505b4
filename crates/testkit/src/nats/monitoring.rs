//! How a server is, as it says itself over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

/// A server that works answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where a server is asked how it is.
#[derive(Debug, Clone)]
pub(super) struct Monitoring {
    http: reqwest::Client,
    address: SocketAddr,
}

/// What has a leader among the servers of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) enum Led<'a> {
    /// The cluster itself: its leader places streams and consumers.
    Cluster,
    /// The replicas of a stream.
    Stream(&'a str),
    /// The replicas of a consumer, of a stream.
    Consumer(&'a str, &'a str),
}

impl Monitoring {
    pub(super) fn at(address: SocketAddr) -> anyhow::Result<Self> {
        // No connection is kept: the server may be another one next time.
        let http =
            reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).pool_max_idle_per_host(0).build()?;
        Ok(Self { http, address })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The answer to a GET of a path with its query.
    pub(super) async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.http.get(self.url() + path).send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        ensure!(status.is_success(), "{path} answered {status}: {answer}");
        Ok(answer)
    }

    /// Whether the server says that all is well with this.
    pub(super) async fn is_well(&self, path: &str) -> bool {
        self.ask(path).await.is_ok()
    }

    /// Who leads, as this server sees it. One that cannot be asked sees nobody.
    pub(super) async fn leader(&self, of: Led<'_>) -> Option<String> {
        let told = self.ask("/jsz?accounts=true&streams=true&consumers=true").await.ok()?;
        leader(&told, of).map(str::to_owned)
    }

    /// How many other servers follow this one, if it leads the cluster, and have whatever it knows.
    pub(super) async fn followers(&self) -> usize {
        let told = self.ask("/jsz").await.unwrap_or_default();
        let replicas = told["meta_cluster"]["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        replicas.iter().filter(|replica| replica["current"] == true && replica["offline"] != true).count()
    }
}

/// Who leads, by what a server answers to `/jsz`.
fn leader<'a>(told: &'a Value, of: Led<'_>) -> Option<&'a str> {
    let items = |of: &'a Value, list: &str| of[list].as_array().map(Vec::as_slice).unwrap_or_default();
    let stream = |name: &str| {
        let mut streams =
            items(told, "account_details").iter().flat_map(|account| items(account, "stream_detail"));
        streams.find(|stream| stream["name"] == name)
    };
    let cluster = match of {
        Led::Cluster => &told["meta_cluster"],
        Led::Stream(name) => &stream(name)?["cluster"],
        Led::Consumer(name, consumer) => {
            let mut consumers = items(stream(name)?, "consumer_detail").iter();
            &consumers.find(|found| found["name"] == consumer)?["cluster"]
        }
    };
    cluster["leader"].as_str().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_leader_is_found_where_it_is_told() {
        let told = json!({
            "meta_cluster": { "leader": "node-0" },
            "account_details": [{ "name": "$G", "stream_detail": [
                { "name": "other", "cluster": { "leader": "node-0" } },
                {
                    "name": "work", "cluster": { "leader": "node-1" },
                    "consumer_detail": [{ "name": "workers", "cluster": { "leader": "node-2" } }],
                },
            ] }],
        });
        assert_eq!(leader(&told, Led::Cluster), Some("node-0"));
        assert_eq!(leader(&told, Led::Stream("work")), Some("node-1"));
        assert_eq!(leader(&told, Led::Consumer("work", "workers")), Some("node-2"));
        assert_eq!(leader(&told, Led::Consumer("other", "workers")), None);
        assert_eq!(leader(&told, Led::Stream("none")), None);
    }

    #[test]
    fn where_nobody_leads_there_is_no_leader() {
        let nobody = json!({ "meta_cluster": { "leader": "" } });
        assert_eq!(leader(&nobody, Led::Cluster), None);
        assert_eq!(leader(&json!({}), Led::Cluster), None);
    }
}
