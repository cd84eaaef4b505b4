//! How many connections there may be: the descriptors of the process, minus those for relays and files.

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
    /// Connections that the listener takes.
    pub(crate) connections_max: u32,
    /// Which listener: a label of metrics.
    pub(crate) listener: &'static str,
}

/// What there is room for at each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rooms {
    /// At the one for everybody.
    pub(crate) public: Room,
    /// At the listener for administration, if it is separate. Other connections do not count there.
    pub(crate) admin: Option<Room>,
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
/// If the reserve leaves nothing.
pub(crate) fn rooms(settings: &ServerSettings, has_admin: bool) -> anyhow::Result<Rooms> {
    rooms_within(settings, has_admin, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX))
}

fn rooms_within(settings: &ServerSettings, has_admin: bool, descriptors: u64) -> anyhow::Result<Rooms> {
    let admin = has_admin.then_some(Room {
        descriptors,
        connections_max: settings.admin_connections_max,
        listener: "admin",
    });
    let reserved =
        u64::from(settings.descriptors_reserved) + admin.map_or(0, |room| u64::from(room.connections_max));
    let left = descriptors.saturating_sub(reserved);
    ensure!(
        left >= CONNECTIONS_MIN,
        "server.descriptors_reserved: this process may have {descriptors} descriptors; with {reserved} of them kept back \
         for relays, files and administration no connections are left (raise the limit: LimitNOFILE, ulimit -n)"
    );
    let connections_max = u64::from(settings.connections_max).min(left);
    let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
    Ok(Rooms { public: Room { descriptors, connections_max, listener: "public" }, admin })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(descriptors: u64) -> anyhow::Result<u32> {
        let settings =
            ServerSettings { connections_max: 4_096, descriptors_reserved: 512, ..Default::default() };
        Ok(rooms_within(&settings, false, descriptors)?.public.connections_max)
    }

    #[test]
    fn administration_has_connections_of_its_own() {
        let settings = ServerSettings {
            connections_max: 4_096,
            descriptors_reserved: 512,
            admin_connections_max: 64,
            ..Default::default()
        };
        let rooms = rooms_within(&settings, true, 4_608).unwrap();
        let admin = rooms.admin.map(|room| room.connections_max);
        assert_eq!((rooms.public.connections_max, admin), (4_032, Some(64)));
    }

    #[test]
    fn relays_and_files_keep_their_descriptors_and_connections_get_the_rest() {
        let limits = [u64::MAX, 4_608, 4_096, 528];
        let left = limits.map(|descriptors| connections(descriptors).unwrap());
        assert_eq!(left, [4_096, 4_096, 3_584, 16]);
    }

    #[test]
    fn a_limit_that_leaves_no_connections_is_refused_with_the_key() {
        let refusal = connections(527).unwrap_err().to_string();
        assert!(refusal.starts_with("server.descriptors_reserved: this process may have 527"), "{refusal}");
    }
}
