//! How many connections there may be: the descriptors of the process, less those that relays and files need.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ServerSettings;

/// With fewer connections than this nothing can be served.
const CONNECTIONS_MIN: u64 = 16;

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Descriptors that this process may have.
    pub(crate) descriptors: u64,
    /// Connections that it takes.
    pub(crate) connections_max: u32,
}

/// Lets this process have as many descriptors as the system allows it.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, soft = limit.current, hard = limit.maximum, "the limit of descriptors stays as it is");
    }
}

/// The room under these settings, with all descriptors that this process has, or could have ([`raise_limit`]).
///
/// # Errors
/// If what is kept back leaves nothing.
pub(crate) fn room(settings: &ServerSettings) -> anyhow::Result<Room> {
    room_within(settings, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX))
}

fn room_within(settings: &ServerSettings, descriptors: u64) -> anyhow::Result<Room> {
    let reserved = u64::from(settings.descriptors_reserved);
    let left = descriptors.saturating_sub(reserved);
    ensure!(
        left >= CONNECTIONS_MIN,
        "server.descriptors_reserved: this process may have {descriptors} descriptors; with {reserved} of them kept back \
         for relays and files no connections are left (raise the limit: LimitNOFILE, ulimit -n)"
    );
    let connections_max = u64::from(settings.connections_max).min(left);
    Ok(Room { descriptors, connections_max: u32::try_from(connections_max).unwrap_or(u32::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(descriptors: u64) -> Result<u32, String> {
        let settings =
            ServerSettings { connections_max: 4_096, descriptors_reserved: 512, ..Default::default() };
        let room = room_within(&settings, descriptors);
        room.map(|room| room.connections_max).map_err(|error| error.to_string())
    }

    #[test]
    fn relays_and_files_keep_their_descriptors_and_connections_get_the_rest() {
        assert_eq!(connections(u64::MAX), Ok(4_096));
        assert_eq!(connections(4_608), Ok(4_096));
        assert_eq!(connections(4_096), Ok(3_584));
        assert_eq!(connections(528), Ok(16));
    }

    #[test]
    fn a_limit_that_leaves_no_connections_is_refused_with_the_key() {
        let refusal = connections(527).unwrap_err();
        assert!(refusal.starts_with("server.descriptors_reserved: this process may have 527"), "{refusal}");
    }
}
