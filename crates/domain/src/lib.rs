//! The words, events and decisions of Kite, as pure functions.
//!
//! Every aggregate has a folder: its events, its state with `evolve`, its commands with `decide`. `evolve` never
//! fails on a stored event; `decide` is a function of state, command and context. Whatever crosses the edge of
//! the system (numbers, addresses, texts, weights) is parsed here once into a type that can be trusted inside.
//!
//! Deliberately absent: tokio, I/O, a clock, randomness. Time and ids are arguments.

pub mod address;
pub mod advertisement;
pub mod advice;
pub mod breaker;
pub mod certificate;
pub mod codes;
pub mod contact;
mod digest;
pub mod election;
pub mod event;
pub mod failure;
mod heap_size;
pub mod ids;
pub mod in_force;
pub mod instance;
pub mod keys;
pub mod load;
pub mod lot;
pub mod mutation;
pub mod not_understood;
pub mod opt_out;
pub mod policy;
pub mod receipt;
pub mod relay;
pub mod seal;
pub mod sender;
pub mod sending;
pub mod seq_set;
pub mod slug;
pub mod split;
#[cfg(test)]
mod stored_words_tests;
pub mod strict_json;
pub mod template;
pub mod tenant;
pub mod text;
pub mod time_window;
