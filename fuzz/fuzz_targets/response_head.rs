#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::response_head::holds(data));
