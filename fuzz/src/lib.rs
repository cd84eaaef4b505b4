//! How libFuzzer changes inputs that hold JSON: by structure three times of four, where there is any, else by bytes.

pub use libfuzzer_sys;

use kite_fuzz_targets::restructured;

/// A target whose inputs hold JSON.
#[macro_export]
macro_rules! json_target {
    ($target:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: kite_fuzz_targets::warm_up(),
            |data: &[u8]| kite_fuzz_targets::$target(data)
        );
        $crate::libfuzzer_sys::fuzz_mutator!(
            |data: &mut [u8], size: usize, max_size: usize, seed: u32| {
                $crate::mutate(data, size, max_size, seed)
            }
        );
        $crate::libfuzzer_sys::fuzz_crossover!(
            |one: &[u8], other: &[u8], out: &mut [u8], seed: u32| { $crate::cross(one, other, out, seed) }
        );
    };
}

/// Changes an input in place; answers how long it is now.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let by_structure = if seed % 2 == 0 { restructured(&data[..size], &[], seed / 2) } else { None };
    match by_structure {
        Some(changed) if changed.len() <= max_size => put(&changed, data),
        _ => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
}

/// An input with something of another one.
pub fn cross(one: &[u8], other: &[u8], out: &mut [u8], seed: u32) -> usize {
    match restructured(one, other, seed) {
        Some(changed) if changed.len() <= out.len() => put(&changed, out),
        _ => {
            let size = put(&one[..one.len().min(out.len())], out);
            let max_size = out.len();
            libfuzzer_sys::fuzzer_mutate(out, size, max_size)
        }
    }
}

fn put(text: &[u8], out: &mut [u8]) -> usize {
    out[..text.len()].copy_from_slice(text);
    text.len()
}
