//! A set of message sequence numbers, as the events of a lot speak of messages.

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Sequence numbers, ascending and distinct. In JSON a run of three or more is written `[first, last]` among the
/// single numbers: `[0, 2, [4, 9]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeqSet(Vec<u32>);

impl SeqSet {
    /// The numbers, ascending.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Whether the number is among them.
    pub fn contains(&self, seq: u32) -> bool {
        self.0.binary_search(&seq).is_ok()
    }

    /// Adds a number that is usually larger than all others.
    pub fn push(&mut self, seq: u32) {
        match self.0.last() {
            Some(&last) if seq <= last => {
                if let Err(place) = self.0.binary_search(&seq) {
                    self.0.insert(place, seq);
                }
            }
            _ => self.0.push(seq),
        }
    }
}

impl FromIterator<u32> for SeqSet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut numbers: Vec<u32> = numbers.into_iter().collect();
        if !numbers.is_sorted_by(|left, right| left < right) {
            numbers.sort_unstable();
            numbers.dedup();
        }
        Self(numbers)
    }
}

impl<'a> IntoIterator for &'a SeqSet {
    type Item = u32;
    type IntoIter = std::iter::Copied<std::slice::Iter<'a, u32>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().copied()
    }
}

impl Serialize for SeqSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(None)?;
        for run in self.0.chunk_by(|left, right| left + 1 == *right) {
            match run {
                [first, .., last] if run.len() > 2 => out.serialize_element(&[first, last])?,
                _ => run.iter().try_for_each(|seq| out.serialize_element(seq))?,
            }
        }
        out.end()
    }
}

/// No stored set may hold more numbers than this, all its runs together; what holds more is not ours.
const NUMBERS_MAX: u32 = 1_000_000;

/// A single number, or a run; told apart by their JSON type, without buffering.
enum Item {
    One(u32),
    Run(u32, u32),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrRun;
        impl<'de> Visitor<'de> for NumberOrRun {
            type Value = Item;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a sequence number or a [first, last] run")
            }

            fn visit_u64<E: serde::de::Error>(self, seq: u64) -> Result<Item, E> {
                u32::try_from(seq).map(Item::One).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut ends: A) -> Result<Item, A::Error> {
                let mut end =
                    || ends.next_element()?.ok_or_else(|| serde::de::Error::custom("a run has two ends"));
                let run = Item::Run(end()?, end()?);
                match ends.next_element::<serde::de::IgnoredAny>()? {
                    None => Ok(run),
                    Some(_) => Err(serde::de::Error::custom("a run has two ends")),
                }
            }
        }
        deserializer.deserialize_any(NumberOrRun)
    }
}

impl<'de> Deserialize<'de> for SeqSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = SeqSet;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of sequence numbers and [first, last] runs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<SeqSet, A::Error> {
                let mut numbers = Vec::with_capacity(items.size_hint().unwrap_or(64).min(1_024));
                while let Some(item) = items.next_element()? {
                    let (first, last) = match item {
                        Item::One(seq) => (seq, seq),
                        Item::Run(first, last) => (first, last),
                    };
                    let left = NUMBERS_MAX.saturating_sub(numbers.len() as u32);
                    if last.checked_sub(first).is_none_or(|steps| steps >= left) {
                        return Err(serde::de::Error::custom(format_args!(
                            "[{first}, {last}] is no run, or one of too many numbers"
                        )));
                    }
                    numbers.extend(first..=last);
                }
                Ok(numbers.into_iter().collect())
            }
        }

        deserializer.deserialize_seq(Items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_back_as_written(numbers in proptest::collection::vec(0u32..300, 0..200)) {
            let set: SeqSet = numbers.into_iter().collect();
            let text = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<SeqSet>(&text).unwrap(), set);
        }

        #[test]
        fn pushing_one_by_one_is_collecting(numbers in proptest::collection::vec(0u32..100, 0..60)) {
            let mut pushed = SeqSet::default();
            numbers.iter().for_each(|seq| pushed.push(*seq));
            prop_assert_eq!(pushed, numbers.into_iter().collect::<SeqSet>());
        }
    }

    #[test]
    fn a_set_that_is_not_ours_takes_no_memory() {
        let read = |text: &str| serde_json::from_str::<SeqSet>(text);
        assert_eq!(read("[[0,999999]]").unwrap().len(), 1_000_000);
        for text in ["[[0,1000000]]", "[[0,999999],[0,999999]]", "[[2,1]]", "[[0,999999],7]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn runs_are_short_in_json() {
        let set: SeqSet = [0, 2, 4, 5, 6, 7, 9, 10].into_iter().collect();
        assert_eq!(serde_json::to_string(&set).unwrap(), "[0,2,[4,7],9,10]");
    }
}
