//! What is measured, one after the other.

pub(crate) mod acceptance;
pub(crate) mod disk;
pub(crate) mod growth;
pub(crate) mod hostile;
pub(crate) mod otp;
pub(crate) mod restart;
pub(crate) mod whole;

use std::path::PathBuf;

use super::cluster::LoadCluster;
use super::server::LoadServer;

/// How long and how much.
pub(crate) struct Plan {
    /// Where data is written.
    pub(crate) directory: PathBuf,
    /// The server in which everything is, if it is in PostgreSQL: a new database for each start.
    pub(crate) postgres: Option<LoadServer>,
    /// The server of the work queue, and how many processes share it, if it is not one process.
    pub(crate) cluster: Option<LoadCluster>,
    /// Each of the two disk measurements.
    pub(crate) store_seconds: u64,
    /// Each of the two acceptance measurements.
    pub(crate) accept_seconds: u64,
    /// The whole path.
    pub(crate) whole_seconds: u64,
    /// Offered to the whole path.
    pub(crate) messages_per_second: u32,
    /// In one request to the whole path.
    pub(crate) recipients: u32,
    /// The growth is looked at up to so many stored messages.
    pub(crate) stored_messages_max: u64,
    /// Messages in each look at it.
    pub(crate) look_messages: u64,
    /// Each step of the search for the highest rate.
    pub(crate) search_seconds: u64,
    /// Steps of the search at most.
    pub(crate) search_steps_max: u32,
    /// One-time passwords in each of the two measurements.
    pub(crate) otps: u32,
    /// Advertisements beside the second.
    pub(crate) campaign_messages: u32,
    /// Hostile callers.
    pub(crate) hostile_callers: usize,
    /// How long they are there beside genuine ones.
    pub(crate) hostile_seconds: u64,
}
