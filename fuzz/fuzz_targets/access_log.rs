#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::access_log::holds(data));
