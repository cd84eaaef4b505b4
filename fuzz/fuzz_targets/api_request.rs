#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kite_fuzz_targets::api_request(data));
