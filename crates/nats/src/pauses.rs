//! How long things wait for a server.

use std::time::Duration;

/// The pause after a failure.
pub(crate) const FAILED_PAUSE: Duration = Duration::from_millis(300);
/// How long a word to the server may take, and the last ones at a stop.
pub(crate) const LAST_WITHIN: Duration = Duration::from_secs(1);

#[expect(
    clippy::disallowed_methods,
    reason = "waits for the network or a time that others name; nothing is decided here"
)]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
