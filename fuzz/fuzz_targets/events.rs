#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: kite_fuzz_targets::warm_up(), |data: &[u8]| kite_fuzz_targets::events(data));
