//! Wrong routines of [deliberate bugs](kite_domain::mutation).

use kite_domain::ids::SendingId;

use super::Lots;

impl Lots {
    /// Whether a sending is kept in memory: `KeyForgottenAfterRestart`.
    pub(crate) fn keeps_sending(&self, id: SendingId) -> bool {
        self.inner.sendings.get(&id).is_some()
    }
}
