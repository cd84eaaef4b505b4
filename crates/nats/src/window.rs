//! How much of a relay's work is in the stream: about so much as its workers hand over within two seconds.

use kite_domain::sending::MessageClass;
use std::collections::VecDeque;

/// For so long of a relay's rate there is work in the stream.
const SECONDS: u32 = 2;
/// A parcel is worth at most this part of a second of the rate, so that several processes get some.
const PARCELS_PER_SECOND: u32 = 4;
/// A relay without a rate has so many of its largest calls in the stream for each call that it takes at once.
const CALLS_AHEAD: u32 = 4;
/// The fewest parcels of a class, however slow a relay is.
const PARCELS_MIN: u32 = 2;

/// What a relay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The most messages of a call.
    pub batch_max: u32,
    /// Calls at once.
    pub calls_max: u16,
    /// Parts a second; none: as fast as it can.
    pub rate: Option<u32>,
}

impl Flow {
    /// The most messages of a parcel.
    pub(crate) fn parcel_max(self) -> u32 {
        let of_rate = self.rate.map_or(u32::MAX, |rate| rate / PARCELS_PER_SECOND);
        self.batch_max.min(of_rate).max(1)
    }

    /// The most messages in the stream, of passwords, and of everything else.
    fn messages_max(self) -> u32 {
        let ahead = match self.rate {
            Some(rate) => rate.saturating_mul(SECONDS),
            None => self.batch_max.saturating_mul(u32::from(self.calls_max)).saturating_mul(CALLS_AHEAD),
        };
        ahead.max(self.parcel_max() * PARCELS_MIN)
    }
}

/// The parcels of one relay that were published and may not be done.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// How many messages each holds, in the order of publishing: of passwords, and of everything else.
    lanes: [VecDeque<u32>; 2],
}

/// Passwords have a window of their own: a campaign takes no room from them.
fn lane(class: MessageClass) -> usize {
    usize::from(class != MessageClass::Otp)
}

/// Of what there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) passwords: bool,
    pub(crate) others: bool,
}

impl Window {
    pub(crate) fn publish(&mut self, class: MessageClass, messages: usize) {
        self.lanes[lane(class)].push_back(u32::try_from(messages).unwrap_or(u32::MAX));
    }

    pub(crate) fn room(&self, flow: Flow) -> Room {
        let is_room = |lane: &VecDeque<u32>| {
            let there = lane.iter().fold(0u32, |sum, messages| sum.saturating_add(*messages));
            there < flow.messages_max()
        };
        Room { passwords: is_room(&self.lanes[0]), others: is_room(&self.lanes[1]) }
    }

    /// So many parcels are in the stream. The oldest are done first, nearly always. What others have published counts as a parcel
    /// of the largest size.
    pub(crate) fn seen(&mut self, parcels: [usize; 2], flow: Flow) {
        for (lane, parcels) in self.lanes.iter_mut().zip(parcels) {
            while lane.len() > parcels {
                lane.pop_front();
            }
            while lane.len() < parcels {
                lane.push_front(flow.parcel_max());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MessageClass::{Ad, Notice, Otp};

    const FLOW: Flow = Flow { batch_max: 100, calls_max: 8, rate: Some(200) };

    #[test]
    fn two_seconds_of_the_rate_fit_and_passwords_have_room_of_their_own() {
        let mut window = Window::default();
        for _ in 0..8 {
            assert_eq!(window.room(FLOW), Room { passwords: true, others: true });
            window.publish(Ad, 50);
        }
        assert_eq!(window.room(FLOW), Room { passwords: true, others: false });
        window.publish(Otp, 400);
        assert_eq!(window.room(FLOW), Room { passwords: false, others: false });
        window.seen([1, 7], FLOW);
        assert_eq!(window.room(FLOW), Room { passwords: false, others: true });
        window.publish(Notice, 50);
        window.seen([0, 8], FLOW);
        assert_eq!(window.room(FLOW), Room { passwords: true, others: false });
        window.seen([0, 0], FLOW);
        assert_eq!(window.room(FLOW), Room { passwords: true, others: true });
    }

    #[test]
    fn what_another_publisher_left_counts() {
        let mut window = Window::default();
        window.seen([0, 7], FLOW);
        assert!(window.room(FLOW).others);
        window.seen([0, 8], FLOW);
        assert!(!window.room(FLOW).others, "eight parcels of fifty");
    }

    #[test]
    fn a_slow_relay_gets_small_parcels_and_one_without_a_rate_large_ones() {
        assert_eq!(FLOW.parcel_max(), 50);
        assert_eq!(Flow { rate: Some(1), ..FLOW }.parcel_max(), 1);
        assert_eq!(Flow { rate: Some(1), ..FLOW }.messages_max(), 2);
        assert_eq!(Flow { rate: None, ..FLOW }.parcel_max(), 100);
        assert_eq!(Flow { rate: None, ..FLOW }.messages_max(), 3_200);
    }
}
