//! What is fuzzed: one function for everything that reads outside input, with any bytes.
//!
//! A function panics if its reader does, or if what was read breaks a property that always holds. `fuzz/` calls them
//! under libFuzzer (`cargo xtask fuzz`); the tests of this crate call them on every seed and on every input that once
//! broke one, on stable Rust.
//!
//! A target is a pure function of its bytes: everything else that it needs is the same every time, so that an input
//! that was found breaks it again anywhere.
//!
//! Deliberately absent: parsers of other projects (TOML, JSON, CSV, HTTP), except as far as ours depend on their
//! results.

mod address;
mod api_request;
mod config;
mod contacts;
mod document;
mod events;
mod house;
mod ids;
mod input;
mod receipts;
mod relay_answer;
mod restructure;
mod sending;
mod text;

pub use address::address;
pub use api_request::api_request;
pub use config::config;
pub use contacts::contacts;
pub use events::events;
pub use ids::ids;
pub use receipts::receipts;
pub use relay_answer::relay_answer;
pub use restructure::restructured;
pub use sending::sending;
pub use text::text;

/// What takes long only once, done before the first input is timed.
pub fn warm_up() {
    kite_domain::address::warm_up();
}

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its file in `fuzz/fuzz_targets/` and of its folders of inputs.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "address", run: address },
    Target { name: "api_request", run: api_request },
    Target { name: "config", run: config },
    Target { name: "contacts", run: contacts },
    Target { name: "events", run: events },
    Target { name: "ids", run: ids },
    Target { name: "receipts", run: receipts },
    Target { name: "relay_answer", run: relay_answer },
    Target { name: "sending", run: sending },
    Target { name: "text", run: text },
];
