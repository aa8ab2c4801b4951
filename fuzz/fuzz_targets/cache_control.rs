#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::cache_control::holds(data));
