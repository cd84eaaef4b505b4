//! Deliberate bugs, to show that the simulation would find real ones.
//!
//! Compiled in only with the feature `mutations`, which only a run of the simulation turns on. Without it
//! [`is_active`] is `false` at compile time, and every place that asks is the code without the bug.

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "mutations", derive(strum::VariantArray))]
#[repr(u8)]
pub enum Mutation {
    /// Every lot is split from the start of the sequence, as if each batch were rounded by itself.
    RoundingPerLot = 1,
    /// After a restart the router forgets where each split stood.
    SplitCarryResetAtRestart,
    /// A message without an answer fails over as if it had failed.
    FailoverFromUnknown,
    /// The newest word about an attempt counts, whatever was known before.
    ReceiptByArrival,
    /// A receipt that comes before the response is dropped.
    ReceiptBeforeResponseDropped,
    /// The night window is not looked at again at hand-over.
    NightCheckOnlyAtAcceptance,
    /// Refusals of advertisements are not looked at again at hand-over.
    OptOutCheckOnlyAtAcceptance,
    /// A cancellation is not looked at again at hand-over.
    CancelIgnoredAtHandover,
    /// The seal is written before the lots.
    SealBeforeLots,
    /// A request is answered before the log has confirmed the seal.
    AcknowledgeBeforeAppend,
    /// Receipts are acknowledged to the relay before they are stored.
    ReceiptsAcknowledgedBeforeStored,
    /// Idempotency keys are known only to the process that took them.
    KeyForgottenAfterRestart,
    /// The relay is called before the intent is in the log.
    IntentAfterCall,
    /// An answer that was lost is taken for a refusal.
    LostAnswerTakenAsRefused,
    /// "Never came in" is believed at once, of a relay that does not drop repeats.
    NotFoundBelievedAtOnce,
    /// What does not fit into a full lane is dropped, and remembered as queued.
    DropOnFullQueue,
    /// After a restart the publisher begins at the end of the log.
    PublisherSkipsAfterRestart,
    /// The checkpoint of a read model is committed before its rows.
    CheckpointBeforeRows,
    /// A receipt that fits nothing is forgotten.
    UnmatchedReceiptDropped,
    /// Nobody looks at the deadline of a receipt.
    DeadlineForgotten,
    /// A deferred message may be taken for one that was never handed over although an earlier call is in doubt.
    DoubtForgottenOnDeferral,
    /// A pause that a relay asks for counts as if the relay had been asked about the message all that time.
    PauseTakenForQuestions,
    /// A refusal of a second call is taken for one of the first, which may still be on its way.
    RefusedRepeatBelieved,
    /// A second call that is refused as a duplicate is taken for proof that the first one was accepted.
    DuplicateTakenAsAccepted,
    /// A relay that keeps answering "too many" is called every second, for as long as it does.
    PatienceForgotten,
    /// A process calls a relay at its whole rate, whatever its shares.
    RateTimesNodes,
    /// A job is given up as done before the answer is in the log.
    JobAcknowledgedFirst,
    /// Only the first version of a policy is followed.
    NewPolicyUnheeded,
    /// The carry of a split is kept for each lot separately.
    SplitKeptByLot,
    /// Nobody asks whether a sender is registered with a relay.
    RegistrationNotAsked,
    /// A failure ends a message although another relay could try.
    FailoverForgotten,
    /// E-mail follows although the sending does not allow it.
    EmailWithoutLeave,
    /// A relay that was tried stays among those that are next.
    FallbackKept,
    /// Only a relay that answers status queries and drops repeats is asked about lost answers.
    UnknownNotAsked,
    /// A code that nobody knows is taken for a fault of the relay.
    CodeGuessed,
    /// A sending's text is found under the wrong name.
    TextOfAnother,
    /// Rows that are bad are dropped and not counted.
    RowsDropped,
    /// A request under an idempotency key never ends.
    KeyStaysInProgress,
    /// After a restart the router continues from the position of the faster of two read models.
    RouterPlaceTooFar,
    /// A job that is older than the log is believed: messages go before their time.
    StaleJobBelieved,
    /// What a relay says of one recipient is taken for its answer to all.
    OneAnswerForAll,
    /// A message that is refused for now is tried again for ever.
    RetriedBeyondLimit,
    /// A projector stands still at a row that cannot be written.
    ParkedRowStopsOthers,
    /// Nobody looks at what the read model of open work has parked.
    ParkedWorkForgotten,
    /// A relay that nobody works for is routed to.
    UnusableStaysEligible,
    /// The messages of all tenants count against the limit of each.
    LimitOverAllTenants,
    /// The reserve for one-time passwords is given to anybody.
    PasswordReserveGivenAway,
    /// A pause is not looked at again at hand-over.
    PauseIgnoredAtHandover,
    /// Now and then an event is in no seal.
    SealSkipsAnEvent,
    /// A sender that is not approved sends.
    ApprovalNotAsked,
    /// A relay that the sender's approval no longer names is handed messages.
    ApprovalOfAnotherRelay,
    /// A refusal by another address of the same person is ignored.
    OtherAddressIgnored,
    /// A log that is a copy of another hands over, although nobody has said that the original is dead.
    RestoredCopyHandsOver,
    /// A message that expires is counted at its sending, but not in statistics.
    OutcomeInOneViewOnly,
    /// At a copy, a receipt for an attempt that only the original made is matched to nothing.
    OriginalsReceiptDropped,
    /// What is cancelled at a copy counts as never handed over by its original.
    CancelAtCopyBelieved,
    /// A process believes its own memory of a lot, whatever others have written since.
    StaleLotConcluded,
    /// A router routes on although another was elected after it.
    FenceIgnored,
    /// An intent counts as unanswered as soon as another process finds it.
    UnansweredTooEarly,
    /// A router does not tell what the one before has claimed.
    ClaimNotFinished,
    /// A relay is called although the time of the intent is over.
    CallAfterItsTime,
    /// A process keeps its own view of a relay, whatever others have found out.
    BreakerNotFollowed,
}

#[cfg(feature = "mutations")]
static ACTIVE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Switches one bug on for the whole process, or all of them off.
#[cfg(feature = "mutations")]
pub fn activate(mutation: Option<Mutation>) {
    ACTIVE.store(mutation.map_or(0, |mutation| mutation as u8), std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is switched on.
#[cfg(feature = "mutations")]
pub fn is_active(mutation: Mutation) -> bool {
    ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == mutation as u8
}

/// Whether this bug is switched on: never, in this build.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn is_active(_mutation: Mutation) -> bool {
    false
}

#[doc(inline)]
pub use crate::__bug as bug;

/// What goes wrong while a deliberate bug is switched on: a statement, or another value under a name that has the right one.
///
/// ```ignore
/// mutation::bug!(DeadlineForgotten, return false);
/// mutation::bug!(NewPolicyUnheeded if self.policies.contains_key(&key), return);
/// mutation::bug!(LimitOverAllTenants, let own = self.all);
/// ```
#[cfg(feature = "mutations")]
#[doc(hidden)]
#[macro_export]
macro_rules! __bug {
    ($($bug:ident)|+ $(if $case:expr)?, let $name:ident = $wrong:expr) => {
        let $name =
            if ($($crate::mutation::is_active($crate::mutation::Mutation::$bug))||+) $(&& $case)? { $wrong } else { $name };
    };
    ($($bug:ident)|+ $(if $case:expr)?, $wrong:expr) => {
        if ($($crate::mutation::is_active($crate::mutation::Mutation::$bug))||+) $(&& $case)? {
            $wrong;
        }
    };
}

/// What would go wrong if deliberate bugs were compiled in: nothing, in this build.
#[cfg(not(feature = "mutations"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __bug {
    ($($bug:tt)*) => {};
}

#[cfg(test)]
mod tests {
    use crate::mutation;

    fn three() -> u16 {
        let number = 3_u8;
        mutation::bug!(RowsDropped | TextOfAnother if number == 3, let number = 4);
        mutation::bug!(RowsDropped, return u16::from(number) + 1);
        u16::from(number)
    }

    #[cfg(not(feature = "mutations"))]
    #[test]
    fn nothing_is_wrong_in_a_build_without_deliberate_bugs() {
        assert_eq!(three(), 3);
        mutation::bug!(RowsDropped, this is not even compiled);
    }

    #[cfg(feature = "mutations")]
    #[test]
    fn a_deliberate_bug_is_one_only_while_it_is_switched_on() {
        assert_eq!(three(), 3);
        mutation::activate(Some(mutation::Mutation::RowsDropped));
        assert_eq!(three(), 5);
        mutation::activate(Some(mutation::Mutation::TextOfAnother));
        assert_eq!(three(), 4);
        mutation::activate(None);
        assert_eq!(three(), 3);
    }
}
