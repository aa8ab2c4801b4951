#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::grpc_answer::holds(data));
