//! The configuration file.

use kite::config::Config;

use crate::input;

/// Reads a file over the defaults. A configuration that was read can be used, and is the same when it is written and
/// read again.
pub fn config(bytes: &[u8]) {
    match Config::from_text(&input::text(bytes)) {
        Ok(config) => {
            assert!(!config.roles().is_empty());
            let limits = config.accept_limits();
            assert_eq!(limits.recipients_max, config.api.recipients_max);
            let options = config.sqlite_options();
            assert_eq!(options.queue_requests_max, config.store.queue_requests_max);
            let written = serde_json::to_value(&config).expect("what was read can be written");
            let again: Config =
                serde_json::from_value(written.clone()).expect("what was written can be read");
            assert_eq!(serde_json::to_value(&again).ok(), Some(written));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
