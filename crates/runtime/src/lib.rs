//! One process of Kite: its parts, wired together, and the loops around every step of its workers.
//!
//! Everything here is generic over the [`Host`], which spawns, sleeps, reads and knows the time. The binary's host
//! uses threads and the machine's clock, the simulation's uses one thread and random choices. Both run these loops
//! and this wiring, so what the simulation shows about them is true for the binary.
//!
//! Deliberately absent: HTTP, files, configuration, and what a process does about its own machine.

mod drive;
mod hire;
mod host;
mod leased;
mod open_work;
mod parts;
mod projecting;
mod publishing;
mod staff;
#[cfg(test)]
mod testing;

pub use drive::{Duty, drive};
pub use host::{BrokenOff, Host, HostPauses, Place};
pub use leased::Post;
pub use open_work::Reading;
pub use parts::Parts;
pub use projecting::{Projecting, ProjectorStanding, ProjectorWatch};
pub use staff::Staff;
