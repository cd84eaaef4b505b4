//! What streams, subjects and consumers are called. All names begin with a prefix, so that installations can share servers.

use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;

/// The names of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The stream of the jobs.
    pub(crate) fn jobs(&self) -> String {
        format!("{}_DISPATCH", self.upper())
    }

    /// The stream of what was not understood.
    pub(crate) fn dead(&self) -> String {
        format!("{}_DEAD", self.upper())
    }

    fn upper(&self) -> String {
        self.prefix.to_uppercase()
    }

    pub(crate) fn all_jobs(&self) -> String {
        format!("{}.dispatch.>", self.prefix)
    }

    pub(crate) fn jobs_of(&self, relay: &RelayId, class: MessageClass) -> String {
        format!("{}.dispatch.{relay}.{}", self.prefix, class.word())
    }

    pub(crate) fn all_dead(&self) -> String {
        format!("{}.dead.>", self.prefix)
    }

    /// Where what was not understood goes that came over this subject.
    pub(crate) fn dead_of(&self, subject: &str) -> String {
        let came_over = subject.strip_prefix(&format!("{}.dispatch.", self.prefix)).unwrap_or(subject);
        format!("{}.dead.{came_over}", self.prefix)
    }

    /// Over which subject what is in the other stream came.
    pub(crate) fn came_over(&self, dead: &str) -> Option<String> {
        let came_over = dead.strip_prefix(&format!("{}.dead.", self.prefix))?;
        Some(format!("{}.dispatch.{came_over}", self.prefix))
    }

    /// Over which workers ask publishers to give out earlier what waits for a relay. No stream keeps it.
    pub(crate) fn hasten(&self, relay: &RelayId) -> String {
        format!("{}.hasten.{relay}", self.prefix)
    }

    pub(crate) fn hasten_all(&self) -> String {
        format!("{}.hasten.*", self.prefix)
    }

    /// The relay of such a subject.
    pub(crate) fn hastened(&self, subject: &str) -> Option<RelayId> {
        let relay = subject.strip_prefix(&format!("{}.hasten.", self.prefix))?;
        relay.parse().ok()
    }
}

/// What the consumer of a relay and a class is called. A relay's name has no underscore.
pub(crate) fn consumer(relay: &RelayId, class: MessageClass) -> String {
    format!("{relay}_{}", class.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_understood_finds_its_way_back() {
        let names = Names::new("kite");
        let relay = RelayId::from_trusted("alpha");
        let subject = names.jobs_of(&relay, MessageClass::Otp);
        assert_eq!(subject, "kite.dispatch.alpha.otp");
        assert_eq!(names.dead_of(&subject), "kite.dead.alpha.otp");
        assert_eq!(names.came_over("kite.dead.alpha.otp"), Some(subject));
        assert_eq!(names.came_over("other.dead.alpha.otp"), None);
        assert_eq!(names.hastened(&names.hasten(&relay)), Some(relay));
    }
}
