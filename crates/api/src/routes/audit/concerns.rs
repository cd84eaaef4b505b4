//! Which events of a lot concern one of its messages.

use kite_domain::event::Event;
use kite_domain::ids::MessageId;

/// Whether the event says something about the message. Events of its sending concern every message of it.
pub(super) fn concerns(event: &Event, message: MessageId) -> bool {
    let seq = message.seq;
    match event {
        Event::SendingAccepted(_)
        | Event::SendingReleased(_)
        | Event::SendingPaused(_)
        | Event::SendingResumed(_)
        | Event::SendingCancelled(_)
        | Event::SendingCompleted(_)
        | Event::SendingAbandoned(_) => true,
        Event::LotAccepted(lot) => lot.groups.iter().any(|group| group.messages.contains(seq)),
        Event::MessagesRouted(routed) => routed.routes.iter().any(|route| route.messages.contains(seq)),
        Event::MessagesSubmitted(submitted) => submitted.messages.contains(seq),
        Event::RelayResponded(responded) => {
            responded.accepted.as_ref().is_some_and(|set| set.messages.contains(seq))
                || responded.refused.iter().any(|set| set.messages.contains(seq))
                || responded.unknown.as_ref().is_some_and(|set| set.messages.contains(seq))
                || responded.refused_for_now.iter().any(|set| set.messages.contains(seq))
                || responded.deferred.as_ref().is_some_and(|set| set.messages.contains(seq))
        }
        Event::ReceiptsRecorded(recorded) => recorded.sets.iter().any(|set| set.messages.contains(seq)),
        Event::MessagesDoubted(doubted) => doubted.messages.contains(seq),
        Event::MessagesHeld(held) => held.messages.contains(seq),
        Event::MessagesFinished(finished) => finished.messages.contains(seq),
        Event::LogSealed(_)
        | Event::RouterElected(_)
        | Event::RoutesClaimed(_)
        | Event::InstanceCopied(_)
        | Event::InstanceReleased(_)
        | Event::InstanceSettled(_)
        | Event::TenantCreated(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_)
        | Event::OperatorKeyIssued(_)
        | Event::OperatorKeyRevoked(_)
        | Event::KeysUsed(_)
        | Event::TenantLimitsSet(_)
        | Event::RelayDefined(_)
        | Event::RelaySuspended(_)
        | Event::RelayResumed(_)
        | Event::RelayBreakerChanged(_)
        | Event::RelayUnattended(_)
        | Event::RelayAttended(_)
        | Event::CodeClassed(_)
        | Event::CodeUnclassed(_)
        | Event::RelayNotUnderstood(_)
        | Event::PolicyDefined(_)
        | Event::WeightsAdvised(_)
        | Event::SenderRegistered(_)
        | Event::SenderRequested(_)
        | Event::SenderApproved(_)
        | Event::SenderRefused(_)
        | Event::SenderExpired(_)
        | Event::SenderWithdrawn(_)
        | Event::OptOutRecorded(_)
        | Event::OptOutWithdrawn(_)
        | Event::OptOutExtended(_)
        | Event::TemplateSaved(_)
        | Event::TemplateDeleted(_)
        | Event::ContactsSaved(_)
        | Event::ContactDeleted(_)
        | Event::GroupSaved(_)
        | Event::GroupDeleted(_)
        | Event::GroupMembersChanged(_)
        | Event::SendingClaimed(_)
        | Event::ReceiptsParked(_)
        | Event::ParkedReceiptsSettled(_) => false,
    }
}

/// The part of the lot that concerns the message: nobody needs a thousand recipients to follow one.
pub(super) fn excerpt(event: Event, message: MessageId) -> (Event, bool) {
    match event {
        Event::LotAccepted(mut lot) if lot.personal.recipients.len() > 1 => {
            let place = (message.seq - message.lot().first_seq()) as usize;
            lot.groups.retain(|group| group.messages.contains(message.seq));
            lot.groups.iter_mut().for_each(|group| group.messages = std::iter::once(message.seq).collect());
            lot.personal.recipients = lot.personal.recipients.into_iter().skip(place).take(1).collect();
            (Event::LotAccepted(lot), true)
        }
        other => (other, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::ids::SendingId;
    use kite_domain::lot::{LotAccepted, LotPersonal, MessagesFinished, Outcome, Recipient, TypeGroup};
    use kite_domain::sending::MessageClass;
    use kite_domain::slug::TenantId;
    use kite_domain::text::MessageType;
    use uuid::Uuid;

    fn message(seq: u32) -> MessageId {
        MessageId { sending: SendingId(Uuid::from_u128(1)), seq }
    }

    fn lot() -> Event {
        let recipient = |to: &str| Recipient {
            to: to.into(),
            email: None,
            contact: None,
            reference: None,
            variables: Default::default(),
        };
        Event::LotAccepted(LotAccepted {
            sending: SendingId(Uuid::from_u128(1)),
            tenant: TenantId::from_trusted("acme"),
            class: MessageClass::Notice,
            number: 1,
            groups: vec![TypeGroup {
                message_type: MessageType::Sms,
                parts: 1,
                reach: None,
                messages: (1_000..1_003).collect(),
            }],
            personal: LotPersonal { recipients: ["a", "b", "c"].map(recipient).to_vec() },
        })
    }

    #[test]
    fn only_events_that_name_the_message_concern_it() {
        assert!(concerns(&lot(), message(1_002)));
        assert!(!concerns(&lot(), message(1_003)));
        let finished = Event::MessagesFinished(MessagesFinished {
            messages: [1_001].into_iter().collect(),
            outcome: Outcome::Cancelled,
            reason: "cancelled".into(),
            class: None,
        });
        assert!(concerns(&finished, message(1_001)) && !concerns(&finished, message(1_002)));
    }

    #[test]
    fn an_excerpt_holds_the_message_and_nobody_else() {
        let (Event::LotAccepted(lot), true) = excerpt(lot(), message(1_001)) else {
            panic!("an excerpt of a lot")
        };
        assert_eq!(lot.personal.recipients.iter().map(|one| one.to.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(lot.groups[0].messages.as_slice(), [1_001]);
    }

    #[test]
    fn what_holds_nobody_else_is_shown_as_it_is() {
        let Event::LotAccepted(mut whole) = lot() else { unreachable!() };
        whole.personal.recipients.truncate(1);
        let whole = Event::from(whole);
        assert_eq!(excerpt(whole.clone(), message(1_000)), (whole, false));
    }
}
