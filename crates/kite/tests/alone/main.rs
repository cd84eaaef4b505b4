//! The real binary without relays: what an operator sees of a process and does to its files.

mod house;
mod private;
mod seals;
mod secrets;
mod trouble;
