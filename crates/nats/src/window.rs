//! How much of a relay's work is in the stream: about so much as its workers hand over within two seconds.

use kite_domain::sending::MessageClass;
use std::collections::VecDeque;

/// For so long of a relay's rate there is work in the stream.
const SECONDS: u32 = 2;
/// A parcel is worth at most this part of a second of the rate, so that several processes get some.
const PARCELS_PER_SECOND: u32 = 4;
/// A relay without a rate has so many of its largest calls in the stream for each call that it takes at once.
const CALLS_AHEAD: u32 = 4;
/// A parcel of single messages is to fit into a message of the server, of a megabyte if nobody has set less.
const PARCEL_MAX: u32 = 1_000;
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
        self.batch_max.min(of_rate).clamp(1, PARCEL_MAX)
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

/// The parcels of one relay that were published and that nobody has pulled yet. What was pulled does not count: a worker may have
/// to keep it for long, and what is behind it may have to go elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Of passwords, and of everything else: a campaign takes no room from passwords.
    lanes: [Lane; 2],
}

#[derive(Debug, Default)]
struct Lane {
    /// How many messages each parcel holds that the server has, in the order of publishing.
    stored: VecDeque<u32>,
    /// Messages that are being published.
    on_their_way: u32,
}

/// Which lane of a window a class has.
pub(crate) fn lane(class: MessageClass) -> usize {
    usize::from(class != MessageClass::Otp)
}

/// Of what there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) passwords: bool,
    pub(crate) others: bool,
}

impl Window {
    /// A parcel of so many messages is being published.
    pub(crate) fn begin(&mut self, class: MessageClass, messages: u32) {
        self.lanes[lane(class)].on_their_way += messages;
    }

    /// The server has it; or it never will.
    pub(crate) fn end(&mut self, class: MessageClass, messages: u32, is_stored: bool) {
        let lane = &mut self.lanes[lane(class)];
        lane.on_their_way = lane.on_their_way.saturating_sub(messages);
        if is_stored {
            lane.stored.push_back(messages);
        }
    }

    pub(crate) fn room(&self, flow: Flow) -> Room {
        let is_room = |lane: &Lane| {
            let stored = lane.stored.iter().fold(0u32, |sum, messages| sum.saturating_add(*messages));
            stored.saturating_add(lane.on_their_way) < flow.messages_max()
        };
        Room { passwords: is_room(&self.lanes[0]), others: is_room(&self.lanes[1]) }
    }

    /// So many parcels wait at the server: the newest ones, nearly always. What others have published counts as a parcel of the
    /// largest size.
    pub(crate) fn seen(&mut self, parcels: [usize; 2], flow: Flow) {
        for (lane, parcels) in self.lanes.iter_mut().zip(parcels) {
            while lane.stored.len() > parcels {
                lane.stored.pop_front();
            }
            while lane.stored.len() < parcels {
                lane.stored.push_front(flow.parcel_max());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MessageClass::{Ad, Notice, Otp};

    const FLOW: Flow = Flow { batch_max: 100, calls_max: 8, rate: Some(200) };

    fn publish(window: &mut Window, class: MessageClass, messages: u32) {
        window.begin(class, messages);
        window.end(class, messages, true);
    }

    #[test]
    fn two_seconds_of_the_rate_fit_and_passwords_have_room_of_their_own() {
        let mut window = Window::default();
        for _ in 0..8 {
            assert_eq!(window.room(FLOW), Room { passwords: true, others: true });
            publish(&mut window, Ad, 50);
        }
        assert_eq!(window.room(FLOW), Room { passwords: true, others: false });
        publish(&mut window, Otp, 400);
        assert_eq!(window.room(FLOW), Room { passwords: false, others: false });
        window.seen([1, 7], FLOW);
        assert_eq!(window.room(FLOW), Room { passwords: false, others: true });
        publish(&mut window, Notice, 50);
        window.seen([0, 8], FLOW);
        assert_eq!(window.room(FLOW), Room { passwords: true, others: false });
        window.seen([0, 0], FLOW);
        assert_eq!(window.room(FLOW), Room { passwords: true, others: true });
    }

    #[test]
    fn what_is_on_its_way_counts_although_the_server_does_not_have_it_yet() {
        let mut window = Window::default();
        window.begin(Otp, 400);
        window.seen([0, 0], FLOW);
        assert!(!window.room(FLOW).passwords);
        window.end(Otp, 400, false);
        assert!(window.room(FLOW).passwords, "it will never be there");
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
        assert_eq!(Flow { rate: None, batch_max: 10_000, ..FLOW }.parcel_max(), 1_000);
    }
}
